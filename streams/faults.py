"""How failures are spoken of, and how long one waits after them."""

import random
from typing import Final

_MAX_CHARS: Final = 500


def one_line(error: BaseException) -> str:
    """What went wrong as one printable line of bounded length, whatever the outside put into the message."""
    return printable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def printable(text: str) -> str:
    """A text of the outside as one printable line of bounded length."""
    escaped = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:_MAX_CHARS])
    return escaped[:_MAX_CHARS]


class Backoff:
    """Waiting times that double from `first_seconds` to `most_seconds`, each shortened by chance by up to a half."""

    def __init__(self, first_seconds: float = 0.1, most_seconds: float = 30.0) -> None:
        self._first, self._most = first_seconds, most_seconds
        self._failures = 0

    def failed(self) -> float:
        """The seconds to wait after one more failure in a row."""
        delay = self.after(self._failures + 1)
        self._failures += 1
        return delay

    def succeeded(self) -> None:
        """Begin again with the shortest wait."""
        self._failures = 0

    def after(self, failures: int) -> float:
        """The seconds to wait after so many failures in a row, at least one."""
        longest = min(self._most, self._first * 2.0 ** min(failures - 1, 64))
        return longest * (0.5 + random.random() / 2)  # noqa: S311 spreads retries, keeps no secret
