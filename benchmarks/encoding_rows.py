"""Row 12: an entry's canonical bytes, beside the reference implementation of RFC 8785 in pure Python."""

import platform

import msgspec
import rfc8785

from benchmarks.ledger_rows import decided_trades
from benchmarks.rows import Budget, Goal, Row, make_row, rate, take_turns
from benchmarks.samples import ORIGIN, SELLER, user_of
from domain.entry import CommandRef, body_hash
from domain.ledger import Ledger

ENTRIES = 2_000
MOMENT = "2026-11-22T05:02:32.123456Z"


def encoding_row(budget: Budget) -> Row:
    """Entries a second from struct to bytes; the reference is given the same entry as a dict, and the bytes agree."""
    goal = Goal("leaf-bytes", "canonical entry bytes (entries/s)", "rfc8785 0.1.4, pure Python, same bytes", 30, 75)
    actor, command = user_of(SELLER), CommandRef(body=body_hash(b"benchmark"), key=body_hash(b"key"))
    ledger = Ledger({"PERSISTENCE_MODULE": "eventsourcing.popo", "APPLICATION_RECORDER_TOPIC": ""})
    trades = decided_trades(budget.count(ENTRIES))
    entries = [ledger.mapper.draft(event, actor, command) for trade in trades for event in trade.collect_events()]
    plain = [msgspec.json.decode(entry.seal(ORIGIN, at + 1, MOMENT)) for at, entry in enumerate(entries)]
    assert all(rfc8785.dumps(value) == entry.state for value, entry in zip(plain, entries, strict=True))

    def ours() -> float:
        return rate(len(entries), lambda: [entry.seal(ORIGIN, at, MOMENT) for at, entry in enumerate(entries)])

    base, mine = take_turns(
        budget.rounds, lambda: rate(len(plain), lambda: [rfc8785.dumps(value) for value in plain]), ours
    )
    return make_row(goal, base, mine, f"CPython {platform.python_version()}; {len(entries[0].state)} bytes an entry")
