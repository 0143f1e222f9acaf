"""Nothing is accepted while a log, a signature, an anchor or a contract knows more than the store."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain.anchor import AnchorSubmitted
from domain.anchor_book import AnchorBook, LaneReport
from domain.errors import DaichoError, LedgerReadOnly
from merkle.hashing import leaf_hash
from merkle.notes import Ed25519Signer
from storage.clock import LedgerClock
from storage.log_store import SqliteLogStore
from streams.fork_guard import WAITING_FOR_CONTRACT, ForkGuard
from streams.sequencer import Sequencer
from tests.entry_factory import ORIGIN, walk
from tests.projection_support import MemoryLog

NOW = datetime(2026, 11, 22, 5, 2, 32, tzinfo=UTC)
RECORDS = walk(71, 120).factory.records
OTHER_RECORDS = walk(72, 120).factory.records


@dataclass
class Contract:
    """The contract's head, and how often the node fails before it answers."""

    size: int = 0
    root: bytes = bytes(32)
    failures: int = 0
    asked: int = 0

    def head(self) -> "Contract":
        self.asked += 1
        if self.asked <= self.failures:
            raise ConnectionError("no node\nat 127.0.0.1\x1b[31m")
        return self


@dataclass
class House:
    """A ledger's surroundings on disk: 100 entries, a tree and a checkpoint of 90 of them, an empty anchor book."""

    folder: Path
    contract: Contract = field(default_factory=Contract)
    refusals: list[DaichoError | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.entries = MemoryLog(RECORDS[:100])
        self.log = SqliteLogStore(self.folder / "log.db")
        self.signer = Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate())
        self.sequencer = Sequencer(ORIGIN, self.log, self.signer)
        self.sequencer.process(RECORDS[:90])
        self.sequencer.publish(NOW)
        self.book = AnchorBook(env={"SQLITE_DBNAME": str(self.folder / "anchors.db")})
        self.book.connect(ORIGIN, LedgerClock())

    def root(self, size: int) -> bytes:
        return self.sequencer.view.root(size)

    def anchor(self, size: int, root: bytes) -> None:
        contract = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
        submitted = AnchorSubmitted(31337, contract, f"0x{'5a' * 32}", size, size, root.hex(), f"0x{'11' * 32}")
        self.book.record(LaneReport("lane", size, contract, submitted))

    def guard(self) -> ForkGuard:
        return ForkGuard(self.entries, self.sequencer.view, self.log, self.book, self.contract.head)

    def check(self, guard: ForkGuard | None = None) -> bool:
        return asyncio.run((guard or self.guard()).check_until_open(self.refusals.append))

    def reason(self) -> tuple[str, int, str]:
        refusal = self.refusals[-1]
        assert isinstance(refusal, LedgerReadOnly)
        return refusal.values["source"], refusal.values["size"], refusal.message


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.log.close()
    made.book.close()


def test_a_ledger_that_nobody_is_ahead_of_opens(house: House) -> None:
    house.anchor(60, house.root(60))
    house.contract = Contract(70, house.root(70))
    assert house.check() is True
    first, *_, last = house.refusals
    assert isinstance(first, LedgerReadOnly), "closed while it is being compared"
    assert last is None


def test_a_new_ledger_opens(tmp_path: Path) -> None:
    log = SqliteLogStore(tmp_path / "log.db")
    sequencer = Sequencer(ORIGIN, log, Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate()))
    book = AnchorBook(env={"SQLITE_DBNAME": str(tmp_path / "anchors.db")})
    book.connect(ORIGIN, LedgerClock())
    refusals: list[DaichoError | None] = []
    guard = ForkGuard(MemoryLog([]), sequencer.view, log, book, Contract().head)
    assert asyncio.run(guard.check_until_open(refusals.append))
    assert refusals[-1] is None
    log.close()
    book.close()


def test_what_other_processes_write_while_it_is_compared_is_no_fork(house: House) -> None:
    class Busy:
        """Each time it is asked, another replica has written, and the word is about that already."""

        def grow(self, upto: int) -> None:
            house.entries.records = RECORDS[:upto]
            house.sequencer.process(RECORDS[90:upto])
            house.sequencer.publish(NOW)

        def last_entry(self) -> tuple[int, bytes]:
            self.grow(105)
            return 105, leaf_hash(RECORDS[104][1])

        def last_checkpoint(self) -> tuple[int, bytes]:
            self.grow(110)
            return 110, house.root(110)

        def head(self) -> Contract:
            self.grow(120)
            return Contract(120, house.root(120))

    busy = Busy()
    guard = ForkGuard(house.entries, house.sequencer.view, house.log, house.book, busy.head, busy)
    assert house.check(guard) is True


# ---- ahead of the store


def test_a_store_restored_from_a_backup_is_read_only_though_only_the_leaves_tell(house: House) -> None:
    house.sequencer.process(RECORDS[90:95])
    house.entries.records = RECORDS[:92]
    assert house.check() is False
    assert house.reason()[:2] == ("log", 95)
    assert house.contract.asked == 0, "no chain is needed to know"


def test_a_checkpoint_ahead_of_the_store_keeps_it_read_only(house: House) -> None:
    newer = SqliteLogStore(house.folder / "newer.db")
    ahead = Sequencer(ORIGIN, newer, house.signer)
    ahead.process(RECORDS[:120])
    ahead.publish(NOW)
    signed = newer.last_checkpoint()
    assert signed is not None
    with house.log._transaction() as file:
        file.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", (120, signed.root, signed.note, signed.signed_at))
    newer.close()
    assert house.check() is False
    assert house.reason() == ("checkpoint", 120, "the checkpoint has size 120, the store ends at 100")


def test_an_anchor_ahead_of_the_store_keeps_it_read_only(house: House) -> None:
    house.anchor(110, bytes(32))
    assert house.check() is False
    assert house.reason()[:2] == ("anchor", 110)


def test_a_contract_ahead_of_the_store_keeps_it_read_only(house: House) -> None:
    house.contract = Contract(101, bytes(32))
    assert house.check() is False
    assert house.reason() == ("contract", 101, "the contract has size 101, the store ends at 100")


# ---- another history


def test_an_entry_other_than_the_sequenced_one_keeps_it_read_only(house: House) -> None:
    house.entries.records = [*RECORDS[:89], OTHER_RECORDS[89], *RECORDS[90:100]]
    assert house.check() is False
    assert house.reason() == ("log", 90, "entry 90 is not the one that was sequenced")


@pytest.mark.parametrize("source", ["checkpoint", "anchor", "contract"])
def test_another_root_at_a_known_size_keeps_it_read_only(house: House, source: str) -> None:
    if source == "checkpoint":
        with house.log._transaction() as file:
            file.execute("UPDATE checkpoints SET root = ?", (house.root(89),))
    elif source == "anchor":
        house.anchor(80, house.root(79))
    else:
        house.contract = Contract(80, house.root(79))
    assert house.check() is False
    found, _, message = house.reason()
    assert found == source
    assert "has root" in message


def test_a_log_forked_at_its_first_entry_is_seen(house: House) -> None:
    other = Sequencer(ORIGIN, SqliteLogStore(house.folder / "other.db"), house.signer)
    other.process(OTHER_RECORDS[:1])
    other.publish(NOW)
    house.contract = Contract(1, other.view.root(1))
    assert house.check() is False
    assert house.reason()[0] == "contract"


# ---- waiting


def test_the_ledger_stays_read_only_until_the_contract_has_answered(house: House) -> None:
    house.contract = Contract(70, house.root(70), failures=2)
    assert house.check() is True
    waiting = [str(refusal) for refusal in house.refusals if refusal and WAITING_FOR_CONTRACT in str(refusal)]
    assert len(waiting) == 2
    assert waiting[0].isprintable(), "what the node said is escaped"
    assert house.refusals[-1] is None


def test_once_open_a_chain_that_goes_away_does_not_close_it(house: House) -> None:
    assert house.check() is True
    house.contract.failures = 10**9
    assert house.refusals[-1] is None
    assert house.contract.asked == 1, "the contract is asked until it answers, and no longer"


def test_a_tree_that_is_still_being_built_is_waited_for(house: House) -> None:
    house.contract = Contract(95, bytes(32))

    async def check() -> bool:
        waiting = asyncio.Event()
        loop = asyncio.get_running_loop()

        def refused(refusal: DaichoError | None) -> None:
            house.refusals.append(refusal)
            if refusal is not None and "waiting for the tree" in str(refusal):
                loop.call_soon_threadsafe(waiting.set)

        task = asyncio.create_task(house.guard().check_until_open(refused))
        await waiting.wait()
        house.sequencer.process(RECORDS[90:100])
        house.sequencer.publish(NOW)
        house.contract.root = house.root(95)
        return await task

    assert asyncio.run(check()) is True
    assert house.refusals[-1] is None


def test_a_node_that_hangs_does_not_hold_up_the_service(house: House) -> None:
    answer = threading.Event()

    def hang() -> Contract:
        answer.wait()
        return house.contract

    async def check() -> bool:
        guard = ForkGuard(house.entries, house.sequencer.view, house.log, house.book, hang)
        task = asyncio.create_task(guard.check_until_open(house.refusals.append))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        assert isinstance(house.refusals[-1], LedgerReadOnly)
        answer.set()
        return await task

    assert asyncio.run(check()) is True


def test_waiting_ends_when_the_service_stops(house: House) -> None:
    house.contract.failures = 10**9

    async def check() -> bool:
        guard = house.guard()
        task = asyncio.create_task(guard.check_until_open(house.refusals.append))
        guard.stop()
        return await task

    assert asyncio.run(check()) is False
    assert isinstance(house.refusals[-1], LedgerReadOnly)


# ---- at run time


def test_a_fork_found_while_running_closes_the_ledger_for_good(house: House) -> None:
    guard = house.guard()
    closed: list[LedgerReadOnly] = []
    guard.on_closed.append(closed.append)
    assert house.check(guard) is True
    finder = threading.Thread(target=lambda: guard.forked(Contract(99, bytes(32))))
    finder.start()
    finder.join()
    guard.forked(Contract(98, bytes(32)))
    assert house.reason()[:2] == ("contract", 99)
    assert len(closed) == 1


def test_a_fork_found_while_still_comparing_is_not_forgotten(house: House) -> None:
    guard = house.guard()

    def answer_and_find() -> Contract:
        guard.forked(Contract(99, bytes(32)))
        return house.contract

    guard._contract_head = answer_and_find
    assert house.check(guard) is False
    assert house.reason()[:2] == ("contract", 99)
