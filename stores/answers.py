"""What the clients of the stores and of the billing system have in common: no answer is read without end.

A server may send for ever, in one go or a byte at a time; httpx's time-outs are between two bytes.
"""

import time
from typing import Final

import httpx

from stores.fields import digits_of
from stores.strict_json import MAX_BYTES

MAX_SECONDS: Final = 60.0
LONGEST_WAIT_SECONDS: Final = 3_600.0


class AnswerTooLong(Exception):
    """More bytes than an answer has, or more time than one takes."""


def bounded(response: httpx.Response, *, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS) -> bytes:
    """The body of a streamed answer. Raises AnswerTooLong, and what httpx raises."""
    until = time.monotonic() + max_seconds
    content = bytearray()
    for part in response.iter_bytes():
        content += part
        if len(content) > max_bytes or time.monotonic() > until:
            raise AnswerTooLong
    return bytes(content)


def wait_seconds(asked: str) -> float | None:
    """The seconds of a Retry-After header (RFC 9110 section 10.2.3), an hour at most; None for anything else."""
    digits = digits_of(asked)
    return None if digits is None else min(float(digits), LONGEST_WAIT_SECONDS)
