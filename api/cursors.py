"""Opaque page cursors: where a list goes on, bound to the list, its viewer and its filters by an HMAC."""

import base64
import binascii
import hashlib
import hmac
from typing import Any, Final

from api.errors import BadCursor
from api.text import json_bytes

_TAG_BYTES: Final = 16
_NEXT_BYTES: Final = 8


class Cursors:
    """Gives out cursors and takes them back. The secret outlives the process, or clients must start lists anew."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.sha256(b"daicho cursor\n" + secret).digest()

    def give(self, following: int | None, *context: Any) -> str | None:
        """The cursor for what follows `following`; None at the end of the list. `context` names list and filters."""
        if following is None:
            return None
        number = following.to_bytes(_NEXT_BYTES, "big")
        return base64.urlsafe_b64encode(self._tag(number, context) + number).decode()

    def take(self, cursor: str | None, *context: Any) -> int | None:
        """What `give` was given. Raises BadCursor for any other text, list, viewer or filter."""
        if cursor is None:
            return None
        try:
            raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        tag, number = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if len(number) != _NEXT_BYTES or not hmac.compare_digest(tag, self._tag(number, context)):
            raise BadCursor(
                "this cursor was not given out for this list", field="cursor", rule="`next` of a page before"
            )
        return int.from_bytes(number, "big")

    def _tag(self, number: bytes, context: tuple[Any, ...]) -> bytes:
        return hmac.digest(self._key, number + json_bytes(context), "sha256")[:_TAG_BYTES]
