"""The sequencer follows the entries, signs only what extends the signed past, and survives a crash after any step."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from merkle.checkpoint import StoredCheckpoint, open_checkpoint
from merkle.flat_log import FlatLog, OutOfTreeError
from merkle.hashing import leaf_hash, leaf_hashes
from merkle.notes import Ed25519Signer
from merkle.proofs import verify_consistency, verify_inclusion
from storage.log_store import LogConflictError, SqliteLogStore
from streams.processor import ForkError, GapError, Record
from streams.sequencer import Sequencer

ORIGIN = "daicho.invalid/3f9c"
NOW = datetime(2026, 11, 22, 5, 2, 32, 123456, tzinfo=UTC)
ENTRIES = [b'{"position":%d}' % position for position in range(1, 2001)]


def records(first: int, last: int) -> list[Record]:
    """The records of positions first..last."""
    return [(position, ENTRIES[position - 1]) for position in range(first, last + 1)]


def root_of(size: int) -> bytes:
    tree = FlatLog()
    tree.append(leaf_hashes(ENTRIES[:size]))
    return tree.root()


@pytest.fixture
def signer() -> Ed25519Signer:
    return Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteLogStore]:
    opened = SqliteLogStore(tmp_path / "log.db")
    yield opened
    opened.close()


class Crash(Exception):
    """The process ends here."""


class CrashingStore:
    """The real store; once armed, it crashes before or right after the named step took effect on disk."""

    def __init__(self, store: SqliteLogStore) -> None:
        self._store = store
        self.before = self.after = ""

    def _run(self, step: str, *given: object) -> None:
        if self.before == step:
            self.before = ""
            raise Crash(step)
        getattr(self._store, step)(*given)
        if self.after == step:
            self.after = ""
            raise Crash(step)

    def append(self, first_position: int, hashes: bytes) -> None:
        self._run("append", first_position, hashes)

    def add_checkpoint(self, previous_size: int, checkpoint: StoredCheckpoint) -> None:
        self._run("add_checkpoint", previous_size, checkpoint)

    def position(self) -> tuple[int, bytes]:
        return self._store.position()

    def load(self) -> Iterator[bytes]:
        return self._store.load()

    def last_checkpoint(self) -> StoredCheckpoint | None:
        return self._store.last_checkpoint()


# ---- following


def test_entries_become_leaves_in_order(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    assert sequencer.name == "sequencer"
    assert sequencer.position() == (0, b"")
    sequencer.process(records(1, 300))
    sequencer.process(records(301, 301))
    assert sequencer.position() == store.position() == (301, leaf_hash(ENTRIES[300]))


def test_an_entry_seen_again_is_skipped(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    sequencer.process(records(1, 20))
    for again in (records(1, 20), records(20, 20), records(5, 9), [], records(15, 30), records(1, 40)):
        sequencer.process(again)
    assert sequencer.position() == (40, leaf_hash(ENTRIES[39]))
    sequencer.publish(NOW)
    assert sequencer.view.root(40) == root_of(40)


@pytest.mark.parametrize("position", [1, 7, 20])
def test_another_entry_at_a_known_position_stops_everything(
    store: SqliteLogStore, signer: Ed25519Signer, position: int
) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    sequencer.process(records(1, 20))
    rewritten = records(1, 25)
    rewritten[position - 1] = (position, b"rewritten")
    with pytest.raises(ForkError, match=f"position {position}"):
        sequencer.process(rewritten)
    assert sequencer.position() == store.position() == (20, leaf_hash(ENTRIES[19]))


@pytest.mark.parametrize(
    "gapped",
    [records(22, 25), [*records(21, 22), *records(24, 25)], [*records(21, 22), *records(22, 23)],
     list(reversed(records(21, 23))), [(0, b"zero")], [(-3, b"below")]],
)  # fmt: skip
def test_a_gap_stops_everything(store: SqliteLogStore, signer: Ed25519Signer, gapped: Sequence[Record]) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    sequencer.process(records(1, 20))
    with pytest.raises(GapError):
        sequencer.process(gapped)
    assert sequencer.position() == store.position() == (20, leaf_hash(ENTRIES[19]))


# ---- publishing


def test_a_published_head_is_signed_stored_and_shown(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    sequencer.process(records(1, 300))
    note = sequencer.publish(NOW)
    assert note is not None
    checkpoint = open_checkpoint(note, ORIGIN, [signer.key])
    assert (checkpoint.size, checkpoint.root) == (300, root_of(300))
    assert store.last_checkpoint() == StoredCheckpoint(300, root_of(300), note, "2026-11-22T05:02:32.123456Z")
    assert sequencer.view.checkpoint() == note


def test_nothing_is_signed_while_the_log_does_not_grow(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    assert sequencer.publish(NOW) is None
    sequencer.process(records(1, 3))
    assert sequencer.publish(NOW) is not None
    assert sequencer.publish(NOW) is None
    assert sequencer.view.size == 3


def test_the_time_of_signing_is_kept_in_utc(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    sequencer.process(records(1, 1))
    sequencer.publish(NOW.astimezone(timezone(timedelta(hours=9))))
    last = store.last_checkpoint()
    assert last is not None
    assert last.signed_at == "2026-11-22T05:02:32.123456Z"


def test_each_head_extends_the_one_before_and_proves_every_entry(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    view = sequencer.view
    sizes = [1, 2, 255, 256, 257, 700]
    done = 0
    for size in sizes:
        sequencer.process(records(done + 1, size))
        assert view.size == done, "sequenced entries are not shown before they are signed"
        with pytest.raises(OutOfTreeError):
            view.leaf(size - 1)
        sequencer.publish(NOW)
        done = size
    for old, new in pairwise(sizes):
        verify_consistency(old, new, view.root(old), view.root(new), view.consistency(old, new))
    for index in range(700):
        verify_inclusion(index, 700, leaf_hash(ENTRIES[index]), view.inclusion_path(index, 700), root_of(700))
    assert view.tile(0, 2, 188) == leaf_hashes(ENTRIES[512:700])


def test_a_restart_goes_on_where_the_log_stood(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    first = Sequencer(ORIGIN, store, signer)
    first.process(records(1, 400))
    note = first.publish(NOW)
    first.process(records(401, 450))
    second = Sequencer(ORIGIN, store, signer)
    assert second.position() == (450, leaf_hash(ENTRIES[449]))
    assert second.view.checkpoint() == note
    second.process(records(451, 500))
    second.publish(NOW)
    assert second.view.root(500) == root_of(500)


# ---- forks


def test_a_stored_head_of_another_tree_is_never_extended(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    sequencer.process(records(1, 300))
    sequencer.publish(NOW)
    sequencer.process(records(301, 302))
    # Damage that keeps every length: two leaf hashes in the middle of a full tile change places.
    with store._transaction() as file:
        (tile,) = file.execute("SELECT hashes FROM tile WHERE number = 0").fetchone()
        swapped = tile[32:64] + tile[:32] + tile[64:]
        file.execute("UPDATE tile SET hashes = ? WHERE number = 0", (swapped,))
    with pytest.raises(ForkError, match="checkpoint 300"):
        Sequencer(ORIGIN, store, signer)


def test_a_stored_head_beyond_the_tree_is_never_overtaken(
    store: SqliteLogStore, signer: Ed25519Signer, tmp_path: Path
) -> None:
    """What a restored backup looks like: the signed past is longer than the log."""
    ahead = Sequencer(ORIGIN, store, signer)
    ahead.process(records(1, 300))
    ahead.publish(NOW)
    last = store.last_checkpoint()
    assert last is not None
    behind = SqliteLogStore(tmp_path / "restored.db")
    sequencer = Sequencer(ORIGIN, behind, signer)
    sequencer.process(records(1, 200))
    with behind._transaction() as file:
        file.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", (last.size, last.root, last.note, last.signed_at))
    for _ in range(2):
        with pytest.raises(ForkError, match="tree of 200"):
            sequencer.publish(NOW)
    with pytest.raises(ForkError, match="tree of 200"):
        Sequencer(ORIGIN, behind, signer)
    assert behind.last_checkpoint() == last
    behind.close()


@pytest.mark.parametrize("column", ["root", "size"])
def test_a_head_whose_row_contradicts_its_note_is_a_fork(
    store: SqliteLogStore, signer: Ed25519Signer, column: str
) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    sequencer.process(records(1, 300))
    sequencer.publish(NOW)
    with store._transaction() as file:
        file.execute(f"UPDATE checkpoints SET {column} = ?", (root_of(299) if column == "root" else 299,))
    with pytest.raises(ForkError, match="note of"):
        sequencer.publish(NOW)


def test_the_log_of_another_origin_is_refused(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    sequencer.process(records(1, 3))
    sequencer.publish(NOW)
    with pytest.raises(ForkError, match=r"daicho\.invalid/other"):
        Sequencer("daicho.invalid/other", store, Ed25519Signer("daicho.invalid/other", Ed25519PrivateKey.generate()))


def test_a_signer_under_another_name_signs_nothing(store: SqliteLogStore) -> None:
    sequencer = Sequencer(ORIGIN, store, Ed25519Signer("someone.else", Ed25519PrivateKey.generate()))
    sequencer.process(records(1, 3))
    with pytest.raises(ValueError, match=r"not named daicho\.invalid"):
        sequencer.publish(NOW)
    assert store.last_checkpoint() is None


def test_a_bit_flipped_in_memory_is_not_signed(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    sequencer = Sequencer(ORIGIN, store, signer)
    sequencer.process(records(1, 3))
    sequencer.publish(NOW)
    sequencer.process(records(4, 4))
    level = sequencer._tree._levels[0]
    level.rows = (*level.rows[:2], bytes([level.rows[2][0] ^ 1]) + level.rows[2][1:], *level.rows[3:])
    with pytest.raises(ForkError, match="leads to another root"):
        sequencer.publish(NOW)
    last = store.last_checkpoint()
    assert last is not None
    assert last.size == 3


def test_a_second_sequencer_fails_loudly(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    first, second = Sequencer(ORIGIN, store, signer), Sequencer(ORIGIN, store, signer)
    first.process(records(1, 300))
    with pytest.raises(LogConflictError):
        second.process(records(1, 300))
    assert second.position() == (300, leaf_hash(ENTRIES[299])), "what the first stored is taken over"
    first.process(records(301, 310))
    with pytest.raises(LogConflictError):
        second.process(records(301, 320))
    assert store.position() == (310, leaf_hash(ENTRIES[309]))


class RacingStore(CrashingStore):
    """Between our look at the last checkpoint and our own, another sequencer stores one."""

    def add_checkpoint(self, previous_size: int, checkpoint: StoredCheckpoint) -> None:
        first = StoredCheckpoint(1, root_of(1), b"note", "2026-11-22T05:02:32.000000Z")
        self._store.add_checkpoint(previous_size, first)
        super().add_checkpoint(previous_size, checkpoint)


def test_of_two_sequencers_that_sign_at_once_the_second_fails(store: SqliteLogStore, signer: Ed25519Signer) -> None:
    sequencer = Sequencer(ORIGIN, RacingStore(store), signer)
    sequencer.process(records(1, 2))
    with pytest.raises(LogConflictError):
        sequencer.publish(NOW)
    assert sequencer.view.head is None


# ---- crashes


def follow_and_publish(sequencer: Sequencer, first: int, last: int) -> None:
    sequencer.process(records(first, last))
    sequencer.publish(NOW)


def finish_and_check(sequencer: Sequencer, signer: Ed25519Signer) -> None:
    """What a host does after a restart: feed from the position, publish; then the log must be whole."""
    reached = sequencer.position()[0]
    sequencer.process(records(max(reached, 1), 600))
    sequencer.publish(NOW)
    view = sequencer.view
    note = view.checkpoint()
    assert note is not None
    checkpoint = open_checkpoint(note, ORIGIN, [signer.key])
    assert (checkpoint.size, checkpoint.root) == (600, root_of(600))
    for index in range(0, 600, 17):
        verify_inclusion(index, 600, leaf_hash(ENTRIES[index]), view.inclusion_path(index, 600), root_of(600))


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["append", "add_checkpoint"])
@pytest.mark.parametrize("restart", [True, False], ids=["restarted", "in the same process"])
def test_a_crash_around_any_durable_step_loses_and_doubles_nothing(
    tmp_path: Path, signer: Ed25519Signer, step: str, moment: str, restart: bool
) -> None:
    store = SqliteLogStore(tmp_path / "log.db")
    crashing = CrashingStore(store)
    sequencer = Sequencer(ORIGIN, crashing, signer)
    sequencer.process(records(1, 300))
    shown = sequencer.publish(NOW)
    setattr(crashing, moment, step)
    with pytest.raises(Crash):
        follow_and_publish(sequencer, 301, 450)
    assert sequencer.view.checkpoint() == shown, "nothing is shown that may not be stored"
    if restart:
        store.close()
        store = SqliteLogStore(tmp_path / "log.db")
        sequencer = Sequencer(ORIGIN, store, signer)
    durable = 450 if (step, moment) != ("append", "before") else 300
    assert sequencer.position() == (durable, leaf_hash(ENTRIES[durable - 1]))
    if (step, moment) == ("add_checkpoint", "after"):
        assert sequencer.publish(NOW) is None, "the stored head is shown, not signed again"
        assert sequencer.view.size == 450
    finish_and_check(sequencer, signer)
    store.close()


def test_every_head_ever_stored_stays_consistent_through_many_crashes(tmp_path: Path, signer: Ed25519Signer) -> None:
    store = SqliteLogStore(tmp_path / "log.db")
    crashing = CrashingStore(store)
    sequencer = Sequencer(ORIGIN, crashing, signer)
    steps = [(moment, step) for moment in ("before", "after") for step in ("append", "add_checkpoint")]
    crashes = 0
    for turn in range(40):
        setattr(crashing, *steps[turn % 4])
        reached = sequencer.position()[0]
        try:
            follow_and_publish(sequencer, reached + 1, reached + 1 + turn % 13)
        except Crash:
            crashes += 1
            if turn % 3 == 0:
                crashing = CrashingStore(store)
                sequencer = Sequencer(ORIGIN, crashing, signer)
    assert crashes == 40
    size, old = 0, None
    while (head := store.checkpoint_at_least(size + 1)) is not None:
        assert head.root == root_of(head.size)
        assert open_checkpoint(head.note, ORIGIN, [signer.key]).root == head.root
        size, old = head.size, head
    assert old == store.last_checkpoint()
    finish_and_check(Sequencer(ORIGIN, store, signer), signer)
    store.close()
