"""What may go wrong, as shares of one or as switches; drawn from one seed, so that a run can be told again."""

import random
import threading
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Faults:
    """Shares between 0 and 1, and switches. `set` changes them by name; unknown names are refused."""

    seed: int = 1
    lose: float = 0.0  # a notification is never sent at all
    duplicate: float = 0.0  # it is sent twice, at the same time
    delay: float = 0.0  # it is sent late, behind others
    apis_away: bool = False  # the stores' APIs answer 503
    api_errors: float = 0.0
    billing_away: bool = False  # under maintenance
    billing_errors: float = 0.0  # an error page with status 200
    billing_slow: float = 0.0
    billing_slow_seconds: float = 1.0
    billing_hang_before: float = 0.0  # no answer, nothing done
    billing_hang_after: float = 0.0  # done, no answer
    billing_hang_seconds: float = 30.0
    _random: random.Random = field(default_factory=random.Random, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self._random.seed(self.seed)

    def strikes(self, name: str) -> bool:
        """Whether this fault strikes now."""
        share = float(getattr(self, name))
        if share <= 0:
            return False
        with self._lock:
            return self._random.random() < share

    def between(self, low: float, high: float) -> float:
        """A number drawn from the same seed."""
        with self._lock:
            return self._random.uniform(low, high)

    def set(self, **values: Any) -> None:
        """Change some. Raises ValueError naming what there is not, or what is of another type."""
        known = {each.name: each.type for each in fields(self) if not each.name.startswith("_")}
        for name, value in values.items():
            if name not in known or not isinstance(value, bool | int | float):
                raise ValueError(f"{name} is no fault; there are {', '.join(known)}")
            setattr(self, name, value)

    def shown(self) -> dict[str, Any]:
        """As they are now."""
        return {each.name: getattr(self, each.name) for each in fields(self) if not each.name.startswith("_")}
