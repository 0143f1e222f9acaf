"""Stories of a subscription, told once and rendered by both stores: which verbs happen to a line, in which order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from simulator.apple import AppleStore
from simulator.google import GooglePlay
from simulator.lines import Line

Store = AppleStore | GooglePlay
PRODUCT: Final = "daily.monthly"
OTHER_PRODUCT: Final = "daily.yearly"


class Step(NamedTuple):
    """A verb; `only` names the one store that has it."""

    verb: str
    only: str = ""


VERBS: Final[Mapping[str, Callable[[Store, Line], Line | None]]] = {
    "renewed": lambda store, line: store.renew(line),
    "grace": lambda store, line: store.fail(line, grace=True),
    "hold": lambda store, line: store.fail(line, grace=False),
    "grace over": lambda store, line: store.end_grace(line),
    "recovered": lambda store, line: store.renew(line),
    "renewal off": lambda store, line: store.renewal(line, on=False),
    "renewal on": lambda store, line: store.renewal(line, on=True),
    "expired": lambda store, line: store.expire(line),
    "resubscribed": lambda store, line: store.resubscribe(line),
    "upgraded": lambda store, line: store.upgrade(line, OTHER_PRODUCT),
    "downgrade asked": lambda store, line: store.downgrade(line, OTHER_PRODUCT),
    "refunded": lambda store, line: store.refund(line),
    "refunded in part": lambda store, line: store.refund(line, 40_000),
    "first charge refunded": lambda store, line: store.refund(line, charge=0),
    "lost renewal": lambda store, line: store.renew(line, quiet=True),
    "refund reversed": lambda store, line: store.reverse_refund(line) if isinstance(store, AppleStore) else None,
    "consumption asked": lambda store, line: store.ask_consumption(line) if isinstance(store, AppleStore) else None,
    "revoked": lambda store, line: store.revoke(line),
    "paused": lambda store, line: store.pause(line) if isinstance(store, GooglePlay) else None,
}
"""What may happen to a line. A verb that gives another line goes on with that one."""

SCENARIOS: Final[Mapping[str, Sequence[Step]]] = {
    "steady": [Step("renewed"), Step("renewed"), Step("renewed")],
    "trial": [Step("renewed"), Step("renewal off"), Step("renewal on"), Step("renewed")],
    "grace": [Step("renewed"), Step("grace"), Step("recovered")],
    "hold": [Step("grace"), Step("grace over"), Step("recovered")],
    "lapse": [Step("renewal off"), Step("expired")],
    "comeback": [Step("renewal off"), Step("expired"), Step("resubscribed"), Step("renewed")],
    "upgrade": [Step("renewed"), Step("upgraded"), Step("renewed")],
    "downgrade": [Step("downgrade asked"), Step("renewed")],
    "refund": [Step("renewed"), Step("refunded")],
    "late refund": [Step("renewed"), Step("renewed"), Step("first charge refunded")],
    "partial refund": [Step("renewed"), Step("refunded in part"), Step("renewed")],
    "disputed": [Step("refunded"), Step("refund reversed", "apple")],
    "revoked": [Step("renewed"), Step("revoked")],
    "pause": [Step("paused", "google"), Step("recovered")],
    "lost": [Step("renewed"), Step("lost renewal"), Step("renewed")],
    "long": [
        Step("renewed"), Step("grace"), Step("recovered"), Step("renewal off"), Step("expired"),
        Step("first charge refunded"),
    ],
}  # fmt: skip
"""By name; each begins with a purchase."""


def steps_of(name: str, store: Store) -> list[str]:
    """The verbs of a scenario that this store has."""
    own = "apple" if isinstance(store, AppleStore) else "google"
    return [step.verb for step in SCENARIOS[name] if step.only in {"", own}]


def play(name: str, store: Store, account: str | None = None) -> list[Line]:
    """Buy, and let everything happen at once; the lines that it led to, the living one last."""
    lines = [store.buy(PRODUCT, account, trial=name == "trial")]
    for verb in steps_of(name, store):
        after = VERBS[verb](store, lines[-1])
        if after is not None and after is not lines[-1]:
            lines.append(after)
    return lines
