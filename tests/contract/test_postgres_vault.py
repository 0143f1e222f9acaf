"""The vault and the anchor lane in PostgreSQL keep the same promises as in their files."""

import threading
from pathlib import Path

import pytest

from chain.key_session import Session
from chain.master_key import FileKeyProvider, create_master_key_file
from chain.subjects import Subjects
from chain.vault import Vault
from chain.vault_care import VaultCare
from storage.lane_store import LaneInUseError, LaneMismatchError
from storage.postgres.lane_store import PostgresLaneStore
from storage.postgres.vault_store import PostgresVaultStore, open_vault
from tests.postgres_server import TestDatabase

ORIGIN, CHAIN, CONTRACT = "daicho.invalid/3f9c", 20260, "0x5FbDB2315678afecb367f032d93F642f64180aa3"


@pytest.fixture
def provider(tmp_path: Path) -> FileKeyProvider:
    create_master_key_file(tmp_path / "master.key")
    return FileKeyProvider(tmp_path / "master.key")


def initialised(store: PostgresVaultStore, provider: FileKeyProvider) -> Vault:
    vault = Vault(store, provider)
    session = Session(vault, "test")
    session.initialise(ORIGIN, CHAIN)
    session.pin_contract(CONTRACT)
    session.commit()
    return vault


def test_keys_made_by_one_process_open_in_another(database: TestDatabase, provider: FileKeyProvider) -> None:
    one, other = PostgresVaultStore(database.writer), PostgresVaultStore(database.writer)
    vault = initialised(one, provider)
    session = Session(vault, "test")
    address = session.create_wallet_key("wallet-1")
    session.commit()
    again = Session(Vault(other, provider), "test")
    assert again.create_wallet_key("wallet-1") == address
    assert Vault(other, provider).identity() == (ORIGIN, CHAIN, CONTRACT)
    assert VaultCare(Vault(other, provider), other).trial_open() > 0
    for store in (one, other):
        store.close()


def test_of_two_heads_signed_at_once_one_is_refused(database: TestDatabase) -> None:
    stores = [PostgresVaultStore(database.writer) for _ in range(8)]
    assert stores[0].commit((ORIGIN, CHAIN, CONTRACT), [], None, [])
    outcomes: list[bool] = []

    def sign(store: PostgresVaultStore, root: bytes) -> None:
        outcomes.append(store.commit(None, [], (0, b"", 5, root), [(1, "test", "log", "", root)]))

    threads = [threading.Thread(target=sign, args=(s, bytes([n]) * 32)) for n, s in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]
    assert stores[0].head()[0] == 5
    assert len(stores[0].audit_rows()) == 1
    for store in stores:
        store.close()


def test_another_identity_is_never_pinned(database: TestDatabase) -> None:
    store = PostgresVaultStore(database.writer)
    assert store.commit((ORIGIN, CHAIN, ""), [], None, [])
    assert store.commit((ORIGIN, CHAIN, CONTRACT), [], None, [])
    assert not store.commit(("other.example/log", CHAIN, CONTRACT), [], None, [])
    assert not store.commit((ORIGIN, CHAIN, "0x" + "1" * 40), [], None, [])
    assert store.identity() == (ORIGIN, CHAIN, CONTRACT)
    store.close()


def test_a_user_seen_by_many_at_once_has_one_pseudonym_and_can_be_erased(
    database: TestDatabase, provider: FileKeyProvider
) -> None:
    stores = [PostgresVaultStore(database.writer) for _ in range(4)]
    vault = initialised(stores[0], provider)
    Subjects(vault, stores[0]).pseudonym("aozora", "first@aozora.example")
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda s=s: found.append(Subjects(Vault(s, provider), s).pseudonym("aozora", "me@aozora.example"))
        )
        for s in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert stores[0].erase_subject(found[0], (1, "test", "subject", found[0], b"x" * 32))
    assert not stores[1].erase_subject(found[0], (1, "test", "subject", found[0], b"x" * 32))
    assert stores[2].subject(found[0]) is None
    for store in stores:
        store.close()


def test_the_signer_is_told_by_a_private_file(database: TestDatabase, tmp_path: Path) -> None:
    file = tmp_path / "database"
    file.write_text(f"main\n{database.writer.conninfo}", "utf-8")
    file.chmod(0o644)
    with pytest.raises(PermissionError, match="chmod 600"):
        open_vault(file)
    file.chmod(0o600)
    open_vault(file).close()
    file.write_text("main\npostgresql://secret-user:secret-word@127.0.0.1:1/x", "utf-8")
    with pytest.raises(OSError, match="cannot be used") as refused:
        open_vault(file)
    assert "secret-word" not in str(refused.value)


def test_readers_never_see_the_vault(database: TestDatabase) -> None:
    store = PostgresVaultStore(database.reader)
    with pytest.raises(Exception, match="cannot be used"):
        store.identity()
    store.close()


# ---- the anchor lane


def lane(database: TestDatabase, contract: str = CONTRACT, publisher: str = "0x" + "2" * 40) -> PostgresLaneStore:
    return PostgresLaneStore(database.writer, chain_id=CHAIN, publisher=publisher, contract=contract, log_id=b"l" * 32)


def test_a_lane_remembers_every_transaction_and_tells_what_became_of_it(database: TestDatabase) -> None:
    store = lane(database)
    plan = {"old_size": 0, "size": 7, "root": b"r" * 32, "max_fee": 10**30, "tip": 2, "created_at": 5.0}
    store.plan(nonce=3, tx_hash=b"a" * 32, raw=b"first", events=[("Submitted", "{}")], **plan)
    store.plan(nonce=3, tx_hash=b"b" * 32, raw=b"second", events=[("Replaced", "{}")], **plan)
    store.mark_sent(3, 6.0)
    store.mark_mined(
        3, tx_hash=b"b" * 32, size=7, root=b"r" * 32, block_number=9, block_hash=b"h" * 32, log_index=0, block_time=8,
        gas_used=7, events=[("Mined", "{}")],
    )  # fmt: skip
    store.mark_final(3, now=10.0, events=[("Final", "{}")])
    again = lane(database)
    assert [(row.nonce, row.state, row.tx_hash) for row in again.slots("final")] == [(3, "final", b"b" * 32)]
    assert [(row.raw, row.max_fee) for row in again.attempts(3)] == [(b"second", 10**30), (b"first", 10**30)]
    assert again.largest_size("final") == 7
    events = again.pending_events(10)
    assert [kind for _, kind, _ in events] == ["Submitted", "Replaced", "Mined", "Final"]
    again.acknowledge(events[1][0])
    assert [kind for _, kind, _ in store.pending_events(10)] == ["Mined", "Final"]
    assert [row.nonce for row in again.due_for_audit(11.0, 5)] == [3]
    again.mark_audited([3], 12.0)
    assert again.due_for_audit(11.0, 5) == []
    again.set_fork("no", events=[])
    assert store.fork() == "no"
    for each in (store, again):
        each.close()


def test_a_lane_bound_to_another_contract_is_refused(database: TestDatabase) -> None:
    lane(database).close()
    with pytest.raises(LaneMismatchError, match="anchors log"):
        lane(database, "0x" + "9" * 40)


def test_whoever_opened_a_lane_last_has_it_and_the_one_before_writes_nothing_more(database: TestDatabase) -> None:
    paused, other_lane = lane(database), lane(database, contract=CONTRACT, publisher="0x" + "3" * 40)
    plan = {"old_size": 0, "size": 7, "root": b"r" * 32, "max_fee": 3, "tip": 2, "created_at": 5.0}
    paused.plan(nonce=3, tx_hash=b"a" * 32, raw=b"first", events=[("Submitted", "{}")], **plan)
    successor = lane(database)
    for write in (
        lambda: paused.plan(nonce=4, tx_hash=b"b" * 32, raw=b"second", events=[("Submitted", "{}")], **plan),
        lambda: paused.mark_sent(3, 6.0),
    ):
        with pytest.raises(LaneInUseError, match="another process"):
            write()
    assert [(row.nonce, row.state) for row in successor.slots("planned")] == [(3, "planned")]
    successor.mark_sent(3, 6.0)
    other_lane.plan(nonce=0, tx_hash=b"c" * 32, raw=b"other", events=[("Submitted", "{}")], **plan)
    for store in (paused, successor, other_lane):
        store.close()
