"""Where to look for what stores have said: the lines that were ever a user's, the line of a charge, the cases.

These are hints in order of positions; whoever looks reads the aggregates themselves, which say how things stand.
"""

from projections.store import Connection

_OF_USER = (
    "SELECT DISTINCT about FROM store_index WHERE name = 'user' AND key = ?"
    " UNION SELECT about FROM store_index WHERE name = 'line' AND key IN"
    " (SELECT about FROM store_index WHERE name = 'moved' AND key = ?)"
)
_OF_CHARGE = "SELECT DISTINCT about FROM store_index WHERE name = 'charge' AND key = ?"
_CASES = "SELECT position, about FROM store_index WHERE name = 'case' AND position > ? ORDER BY position LIMIT ?"


def lines_of_user(connection: Connection, user: str) -> list[str]:
    """The subscriptions that are, or ever were, bound to a user (a pseudonym) or handed in for him."""
    return sorted(about for (about,) in connection.execute(_OF_USER, (user, user)).fetchall())


def lines_of_charge(connection: Connection, charge: str) -> list[str]:
    """The subscriptions that a charge (our name of it) was for."""
    return sorted(about for (about,) in connection.execute(_OF_CHARGE, (charge,)).fetchall())


def cases_after(connection: Connection, position: int, limit: int) -> list[tuple[int, str]]:
    """Cases behind a position, each with the position at which it was opened, ascending."""
    return [(at, about) for at, about in connection.execute(_CASES, (position, limit)).fetchall()]
