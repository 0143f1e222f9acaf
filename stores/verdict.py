"""What was found out about a message that claims to come from a store."""

from enum import StrEnum


class Verdict(StrEnum):
    """Only VALID is ever applied. Everything else but INVALID is kept for people to look at."""

    VALID = "valid"
    INVALID = "invalid"  # not by the store: the sender is refused, a sample is kept
    FOREIGN = "foreign"  # by the store, about another app or environment: somebody has configured something wrongly
    MALFORMED = "malformed"  # by nobody in particular: cannot be read at all
    UNVERIFIED = "unverified"  # rightly signed, but whether the key was revoked cannot be asked just now
    UNAVAILABLE = "unavailable"  # cannot be judged now, and not worth keeping: the store sends it again


class MessageRefused(ValueError):
    """A message that cannot be read. `rule` says which rule it breaks, and repeats nothing of the message."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule
