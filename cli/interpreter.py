"""How the interpreter is set for a service: few collections, short turns at its lock."""

import gc
import sys
from typing import Final

_COLLECT_AFTER_OBJECTS: Final = 50_000
_SWITCH_SECONDS: Final = 0.0005


def settle_down() -> None:
    """Call once, when everything is loaded and before the first request.

    What is loaded by now lives for ever: it is kept out of every later collection, and collections come rarely, since
    cached aggregates would be looked through again and again. Threads wait half a millisecond for the interpreter's
    lock instead of five: the event loop gives it away at every statement and must not wait for a processor's turn.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS, 20, 100)
    sys.setswitchinterval(_SWITCH_SECONDS)
