"""Ring 7, time bounds: what the recorded time is worth, and before which moments the entry certainly existed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from daicho_verify.entry import Entry, micros
from daicho_verify.errors import DisagreesError, NotCheckedError
from daicho_verify.rpc import Block

_MICROS = 1_000_000
_LATEST_SECONDS = 253_402_300_799  # the last second of the year 9999


def moment(seconds: int) -> str:
    """Write unix seconds as UTC; the bare number when no calendar holds it."""
    if seconds > _LATEST_SECONDS:
        return f"second {seconds} of the Unix clock"
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_order(entries: Sequence[Entry]) -> None:
    """Raise DisagreesError when a later position has an earlier time: `recorded_at` never decreases in a log."""
    ordered = sorted(entries, key=lambda entry: entry.position)
    for earlier, later in pairwise(ordered):
        if later.recorded_at < earlier.recorded_at:
            raise DisagreesError(
                f"position {later.position} says {later.recorded_at}, "
                f"but position {earlier.position} before it says {earlier.recorded_at}"
            )


def check_time(
    entry: Entry,
    others: Sequence[Entry],
    block: Block | None,
    witnessed: Sequence[int],
    quorum: int,
    tolerance_seconds: int,
) -> str:
    """Say what bounds the entry's time; `witnessed` are the times (unix s) of the policy's witnesses' cosignatures.

    With a quorum of k the k-th earliest counts: at least k witnesses had seen the tree by then. Raises DisagreesError
    when the operator's time lies after such a moment by more than the tolerance, NotCheckedError when nothing but the
    operator's word is there.
    """
    check_order([entry, *others])
    bounds = []
    if block is not None:
        bounds.append((block.time, f"block {block.number}"))
    if quorum and len(witnessed) >= quorum:
        bounds.append((sorted(witnessed)[quorum - 1], f"{quorum} of the policy's witnesses"))
    if not bounds:
        raise NotCheckedError(
            f"recorded_at {entry.recorded_at} is the operator's word; no block and no witnesses bound it"
        )
    latest, by_whom = min(bounds)
    recorded = micros(entry.recorded_at)
    if recorded > (latest + tolerance_seconds) * _MICROS:
        raise DisagreesError(f"recorded_at {entry.recorded_at} lies after {moment(latest)}, the time of {by_whom}")
    return (
        f"existed by {moment(latest)} ({by_whom}); recorded_at {entry.recorded_at} is the operator's word, "
        "not older is not proven"
    )
