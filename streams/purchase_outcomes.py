"""What may come of a step of a purchase."""

from typing import NamedTuple

from domain.purchase_table import Outcome


class Report(NamedTuple):
    """The step has come to something. `detail` for people; `contract` of START that is OK."""

    outcome: Outcome
    detail: str = ""
    contract: str | None = None


class Wait(NamedTuple):
    """There is nothing to report yet: look again in so many seconds; None: when something new is heard of it."""

    seconds: float | None
    reason: str
