"""Due work `deadline`: what stores, and users, wait for, as data; people hear of it at two thirds of the time.

    google-acknowledge     72 h   else Google takes the purchase back and gives the user his money
    apple-consumption      12 h   else Apple decides on a refund without our word
    google-refund-review   24 h   else Google decides on a refund without our word
    stuck-purchase         15 min a purchase that has not moved since

It is put when its time begins, with the time at which it is to be looked at. What is settled by then is done with;
else a case is opened, and closed by itself when the matter is settled after all.

https://developer.apple.com/documentation/appstoreserverapi/send-consumption-information
https://developer.android.com/google/play/billing/integrate#process
"""

import json
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from domain.case import CaseKind
from domain.purchase_commands import OpenCase
from storage.due_work import Work

DEADLINE: Final = "deadline"
HOUR: Final = 3_600.0
ACKNOWLEDGE, CONSUMPTION, REVIEW, STUCK = (
    "google-acknowledge", "apple-consumption", "google-refund-review", "stuck-purchase",
)  # fmt: skip
SECONDS: Final[Mapping[str, float]] = {
    ACKNOWLEDGE: 72 * HOUR,
    CONSUMPTION: 12 * HOUR,
    REVIEW: 24 * HOUR,
    STUCK: 900.0,
}
AFTER: Final = 2 / 3


class Deadline(NamedTuple):
    """One of them: about which aggregate, from when on (Unix seconds), told by which payload (hash) or position."""

    name: str
    about: str
    since: float
    evidence: str

    @classmethod
    def of(cls, payload: str) -> "Deadline":
        """Out of the payload of work."""
        return cls(**json.loads(payload))

    @property
    def alarm_at(self) -> float:
        """When people hear of it."""
        return self.since + SECONDS[self.name] * AFTER

    @property
    def at(self) -> float:
        """When its time is up."""
        return self.since + SECONDS[self.name]

    def work(self) -> Work:
        """It as work, in no order, since it waits for nobody.

        There is one for a purchase that goes on, for a line's acknowledgement, and for each request of a store's.
        """
        matter = "" if self.name in {STUCK, ACKNOWLEDGE} else str(int(self.since))
        key = f"{DEADLINE}:{self.name}:{self.about}:{matter}"
        return Work(DEADLINE, key, json.dumps(self._asdict()), self.alarm_at)

    def case(self) -> OpenCase:
        """What is put before people."""
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.at))
        return OpenCase(
            kind=CaseKind.DEADLINE,
            about=self.about,
            number=1 + list(SECONDS).index(self.name) + len(SECONDS) * (int(self.since) // 60),
            reason=f"{self.name}: the time is up at {ends}",
            evidence=(self.evidence,),
        )
