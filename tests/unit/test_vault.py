import logging
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_keys.datatypes import Signature as EthSignature

from chain.curve import address_of_secret
from chain.envelope import Context, MasterKeyError, SealBrokenError, seal, unseal
from chain.master_key import SERVICE, SIGNER, FileKeyProvider, add_master_key, create_master_key_file
from chain.vault import (
    LOG,
    PROMISE,
    PUBLISHER,
    WALLET,
    ForeignDomainError,
    HeadRefusedError,
    KeyErasedError,
    NotInitialisedError,
    SealedKey,
    UnknownKeyError,
    VaultConflictError,
)
from domain.errors import StorageUnavailable
from merkle.notes import join_note, open_note
from tests.vault_support import CHAIN, CONTRACT, ORIGIN, Folder, Opened

DIGEST = bytes(range(32))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def opened(folder: Folder) -> Opened:
    return folder.open()


def secret_of(opened: Opened, purpose: str, owner: str) -> bytes:
    return opened.vault.unseal(opened.vault.sealed(purpose, owner))


# the master key file --------------------------------------------------------------------------------------------------


def test_a_master_key_file_is_made_private_and_never_overwritten(folder: Folder) -> None:
    create_master_key_file(folder.key_file)
    assert folder.key_file.stat().st_mode & 0o777 == 0o600
    before = folder.key_file.read_bytes()
    with pytest.raises(MasterKeyError, match="never overwritten"):
        create_master_key_file(folder.key_file)
    assert folder.key_file.read_bytes() == before
    assert [path.name for path in folder.path.iterdir()] == ["master.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o700 | 0o010])
def test_a_master_key_file_open_to_others_is_refused(folder: Folder, mode: int) -> None:
    create_master_key_file(folder.key_file)
    folder.key_file.chmod(mode)
    with pytest.raises(MasterKeyError, match="chmod 600"):
        FileKeyProvider(folder.key_file)


def test_a_missing_master_key_file_names_the_command_that_makes_one(folder: Folder) -> None:
    with pytest.raises(MasterKeyError, match="daicho keys init"):
        FileKeyProvider(folder.key_file)


def test_a_folder_or_a_pipe_is_no_master_key_file(folder: Folder) -> None:
    pipe = folder.path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (pipe, folder.path):
        with pytest.raises(MasterKeyError, match="plain file"):
            FileKeyProvider(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b'{"format":"daicho-master-key/1","current":1,"keys":{}}',
        b'{"format":"daicho-master-key/2","current":1,"keys":{"1":"' + b"ab" * 32 + b'"}}',
        b'{"format":"daicho-master-key/1","current":1,"keys":{"1":"' + b"ab" * 31 + b'"}}',
        b'{"format":"daicho-master-key/1","current":0,"keys":{"0":"' + b"ab" * 32 + b'"}}',
        b'{"format":"daicho-master-key/1","current":1,"keys":{"1":"' + b"ab" * 32 + b'","x":"' + b"ab" * 32 + b'"}}',
        b'{"format":"daicho-master-key/1","current":1,"keys":{"1":"' + b"ab" * 32 + b'"},"more":1}',
    ],
)
def test_a_malformed_master_key_file_is_refused_without_showing_it(folder: Folder, content: bytes) -> None:
    folder.key_file.write_bytes(content)
    folder.key_file.chmod(0o600)
    with pytest.raises(MasterKeyError) as refusal:
        FileKeyProvider(folder.key_file)
    assert "abab" not in str(refusal.value)


def test_a_process_opens_only_what_its_part_of_the_master_key_is_for(folder: Folder) -> None:
    both = folder.open()
    both.initialise()
    both.wallet("wallet-1")
    service, signer = folder.open((SERVICE,)), folder.open((SIGNER,))
    assert service.vault.open_note_key(PROMISE).key == both.vault.verifier_key(PROMISE)
    for purpose, owner in ((WALLET, "wallet-1"), (PUBLISHER, ""), (LOG, "")):
        with pytest.raises(MasterKeyError, match="does not hold"):
            secret_of(service, purpose, owner)
        assert secret_of(signer, purpose, owner) == secret_of(both, purpose, owner)
    with pytest.raises(MasterKeyError, match="does not hold"):
        signer.vault.open_note_key(PROMISE)


def test_another_key_file_does_not_open_the_vault(folder: Folder) -> None:
    folder.open().wallet("wallet-1")
    folder.key_file.unlink()
    with pytest.raises(SealBrokenError, match="another key file"):
        folder.open().care.trial_open()


# the envelope ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "wallet-2"},
        {"address": "0x" + "22" * 20},
        {"purpose": PUBLISHER},
        {"kek": 2},
        {"kek": 3},
        {"ciphertext": 0},
        {"ciphertext": -1},
        {"nonce": 0},
        {"wrapped_key": 0},
        {"wrapped_key": -1},
        {"wrap_nonce": 0},
    ],
)
def test_a_key_under_a_swapped_owner_address_master_key_or_altered_byte_does_not_open(
    folder: Folder, change: dict[str, Any]
) -> None:
    opened = folder.open()
    opened.wallet("wallet-1")
    add_master_key(folder.key_file)
    key = opened.vault.sealed(WALLET, "wallet-1")
    assert address_of_secret(opened.vault.unseal(key)) == key.address
    ((field, value),) = change.items()
    if isinstance(getattr(key, field), bytes):
        altered = bytearray(getattr(key, field))
        altered[value] ^= 1
        value = bytes(altered)
    with pytest.raises((SealBrokenError, MasterKeyError)):
        opened.vault.unseal(key._replace(**{field: value}))


def test_a_row_relabelled_with_another_version_of_the_same_master_key_does_not_open(folder: Folder) -> None:
    create_master_key_file(folder.key_file)
    same = _hex_keys(folder.key_file)[0]
    keys = f'{{"1":"{same}","2":"{same}"}}'
    folder.key_file.write_text(f'{{"format":"daicho-master-key/1","current":1,"keys":{keys}}}')
    opened = folder.open()
    opened.wallet("wallet-1")
    with pytest.raises(SealBrokenError):
        opened.vault.unseal(opened.vault.sealed(WALLET, "wallet-1")._replace(kek=2))


def test_two_rows_may_not_exchange_what_they_seal(opened: Opened) -> None:
    for wallet in ("wallet-1", "wallet-2"):
        opened.wallet(wallet)
    one, two = (opened.vault.sealed(WALLET, wallet) for wallet in ("wallet-1", "wallet-2"))
    for mixed in (SealedKey(*one[:5], *two[5:]), SealedKey(*one[:8], *two[8:]), SealedKey(*two[:8], *one[8:])):
        with pytest.raises(SealBrokenError):
            opened.vault.unseal(mixed)


def test_contexts_that_read_the_same_when_joined_stay_apart(opened: Opened) -> None:
    sealed = seal(b"secret", Context(WALLET, "ab", "c"), opened.provider)
    assert unseal(sealed, Context(WALLET, "ab", "c"), opened.provider) == b"secret"
    with pytest.raises(SealBrokenError):
        unseal(sealed, Context(WALLET, "a", "bc"), opened.provider)


# keys -----------------------------------------------------------------------------------------------------------------


def test_a_wallet_keeps_its_address_however_often_and_by_whomever_it_is_asked_for(folder: Folder) -> None:
    address = folder.open().wallet("wallet-1")
    assert folder.open().wallet("wallet-1") == address
    session = folder.open().session()
    assert session.create_wallet_key("wallet-2") == session.create_wallet_key("wallet-2") != address


def test_two_that_make_the_same_wallet_at_once_end_with_one_key(folder: Folder) -> None:
    first, second = folder.open().session(), folder.open().session()
    address = first.create_wallet_key("wallet-1")
    second.create_wallet_key("wallet-1")
    first.commit()
    with pytest.raises(VaultConflictError):
        second.commit()
    assert folder.open().wallet("wallet-1") == address


def test_nothing_is_made_until_the_session_commits(folder: Folder) -> None:
    session = folder.open().session()
    session.create_wallet_key("wallet-1")
    with pytest.raises(UnknownKeyError):
        folder.open().vault.sealed(WALLET, "wallet-1")


def test_a_key_signs_as_any_ethereum_wallet_with_that_secret_would(opened: Opened) -> None:
    address = opened.wallet("wallet-1")
    signature = opened.session().sign("TradeConfirmed", WALLET, "wallet-1", address, DIGEST)
    assert EthSignature(signature).recover_public_key_from_msg_hash(DIGEST).to_checksum_address() == address
    assert (
        signature
        == Account.unsafe_sign_hash(DIGEST, secret_of(opened, WALLET, "wallet-1")).signature[:64] + (signature[64:])
    )


def test_a_rotation_asked_for_twice_makes_one_key_and_the_old_one_still_signs(opened: Opened) -> None:
    old = opened.wallet("wallet-1")
    news = []
    for nonce in ("0x01", "0x01", "0x02"):
        session = opened.session()
        news.append(session.rotate_wallet_key("wallet-1", old, nonce))
        session.commit()
    assert news[0] == news[1]
    assert len({old, news[0], news[2]}) == 3
    session = opened.session()
    assert session.newest_address(WALLET, "wallet-1") == news[2]
    assert session.address(WALLET, "wallet-1") == old
    for address in (old, *news):
        signature = session.sign("t", WALLET, "wallet-1", address, DIGEST)
        recovered = EthSignature(signature).recover_public_key_from_msg_hash(DIGEST)
        assert recovered.to_checksum_address() == address


def test_a_key_that_is_not_there_is_not_rotated_or_used(opened: Opened) -> None:
    old = opened.wallet("wallet-1")
    session = opened.session()
    with pytest.raises(UnknownKeyError):
        session.rotate_wallet_key("wallet-1", "0x" + "22" * 20, "0x01")
    with pytest.raises(UnknownKeyError):
        session.rotate_wallet_key("wallet-2", old, "0x01")
    with pytest.raises(UnknownKeyError):
        session.sign("t", WALLET, "wallet-2", old, DIGEST)
    with pytest.raises(UnknownKeyError):
        session.newest_address(WALLET, "wallet-2")


def test_an_erased_key_is_gone_from_the_disk_and_does_not_come_back(folder: Folder) -> None:
    opened = folder.open()
    old = opened.wallet("wallet-1")
    kept = opened.wallet("wallet-2")
    key = opened.vault.sealed(WALLET, "wallet-1")
    session = opened.session()
    session.rotate_wallet_key("wallet-1", old, "0x01")
    session.commit()
    assert opened.care.erase_wallet_key("wallet-1") == 2
    on_disk = b"".join(path.read_bytes() for path in folder.path.glob("vault.db*"))
    for erased in (key.wrapped_key, key.ciphertext):
        assert erased not in on_disk
    assert opened.vault.sealed(WALLET, "wallet-2").wrapped_key in on_disk
    session = opened.session()
    for use in (
        lambda: session.create_wallet_key("wallet-1"),
        lambda: session.sign("t", WALLET, "wallet-1", old, DIGEST),
        lambda: session.rotate_wallet_key("wallet-1", old, "0x02"),
    ):
        with pytest.raises(KeyErasedError):
            use()
    assert opened.care.erase_wallet_key("wallet-1") == 0
    assert opened.wallet("wallet-2") == kept


def test_every_use_leaves_an_audit_row(opened: Opened) -> None:
    address = opened.wallet("wallet-1")
    session = opened.session()
    session.sign("TradeConfirmed", WALLET, "wallet-1", address, DIGEST)
    session.commit()
    opened.care.erase_wallet_key("wallet-1", who="operator")
    rows = [row[2:] for row in opened.store.audit_rows()]
    assert rows == [
        ("test", "create wallet key", "wallet-1", b""),
        ("test", "TradeConfirmed", "wallet-1", DIGEST),
        ("operator", "erase wallet key", "wallet-1", b""),
    ]


# the operator's keys and what is pinned -------------------------------------------------------------------------------


def test_a_fresh_vault_signs_for_nobody(opened: Opened) -> None:
    with pytest.raises(NotInitialisedError):
        opened.vault.identity()


def test_what_is_pinned_stays_pinned(folder: Folder) -> None:
    folder.open().initialise()
    opened = folder.open()
    publisher = opened.vault.sealed(PUBLISHER, "").address
    opened.initialise()
    assert opened.vault.identity() == (ORIGIN, CHAIN, CONTRACT)
    assert opened.vault.sealed(PUBLISHER, "").address == publisher
    session = opened.session()
    session.pin_contract(CONTRACT.lower())
    for use in (
        lambda: session.initialise("daicho.invalid/other", CHAIN),
        lambda: session.initialise(ORIGIN, CHAIN + 1),
        lambda: session.pin_contract("0x" + "22" * 20),
    ):
        with pytest.raises(ForeignDomainError):
            use()


def test_two_that_initialise_at_once_do_not_mix(folder: Folder) -> None:
    first, second, third = (folder.open().session() for _ in range(3))
    first.initialise(ORIGIN, CHAIN)
    second.initialise("daicho.invalid/other", CHAIN)
    third.initialise(ORIGIN, CHAIN)
    first.commit()
    for late in (second, third):
        with pytest.raises(VaultConflictError):
            late.commit()
    assert folder.open().vault.identity() == (ORIGIN, CHAIN, "")


def test_note_keys_are_named_after_the_log_and_sign_notes_that_open(opened: Opened) -> None:
    opened.initialise()
    log, promise = opened.vault.verifier_key(LOG), opened.vault.verifier_key(PROMISE)
    assert (log.name, promise.name) == (ORIGIN, ORIGIN + "/promise")
    text = b"daicho\nline\n"
    assert open_note(join_note(text, [opened.session().sign_note(LOG, text)]), [log])[0] == text
    assert open_note(join_note(text, [opened.vault.open_note_key(PROMISE).sign(text)]), [promise])[0] == text


def test_a_signed_head_never_shrinks_nor_forks(folder: Folder) -> None:
    opened = folder.open()
    opened.initialise()
    for size, root in ((5, b"\1" * 32), (5, b"\1" * 32), (9, b"\2" * 32)):
        session = opened.session()
        session.advance_head(size, root)
        session.commit()
    session = folder.open().session()
    for size, root in ((8, b"\2" * 32), (9, b"\3" * 32), (0, b"\2" * 32)):
        with pytest.raises(HeadRefusedError):
            session.advance_head(size, root)
    session.advance_head(10, b"\4" * 32)
    with pytest.raises(HeadRefusedError):
        session.advance_head(9, b"\2" * 32)


def test_two_signers_cannot_sign_two_heads_of_one_size(folder: Folder) -> None:
    folder.open().initialise()
    first, second = folder.open().session(), folder.open().session()
    first.advance_head(5, b"\1" * 32)
    second.advance_head(5, b"\2" * 32)
    first.commit()
    with pytest.raises(VaultConflictError):
        second.commit()


# care -----------------------------------------------------------------------------------------------------------------


def test_a_master_key_rotation_can_stop_anywhere_and_go_on(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.vault_care.BATCH_ROWS", 4)
    opened = folder.open()
    opened.initialise()
    wallets = {name: opened.wallet(name) for name in (f"wallet-{i}" for i in range(9))}
    people = {opened.subjects.pseudonym("aozora-foods", name): name for name in ("hana", "ren", "yui")}
    opened.care.erase_wallet_key("wallet-0")
    before = opened.vault.sealed(WALLET, "wallet-1")
    assert opened.care.remaining() == 0

    add_master_key(folder.key_file)
    assert opened.care.rewrap_batch() == 0  # a running process keeps its version until it is told
    again = folder.open()
    assert again.care.remaining() == 15  # 8 wallets, 3 operator keys, the index key, 3 people
    assert again.care.rewrap_batch() == 7
    assert again.care.remaining() == 8
    assert opened.session().sign("t", WALLET, "wallet-1", wallets["wallet-1"], DIGEST)  # reads both versions

    steps: list[int] = []
    last = folder.open()
    assert last.care.rewrap(steps.append) == 8
    assert steps == [4, 8]
    assert last.care.remaining() == 0
    assert last.care.trial_open(100) == 15
    after = last.vault.sealed(WALLET, "wallet-1")
    assert (after.kek, after.ciphertext, after.nonce) == (2, before.ciphertext, before.nonce)
    assert after.wrapped_key != before.wrapped_key
    assert {last.subjects.reveal(pseudonym) for pseudonym in people} == {("aozora-foods", n) for n in people.values()}
    with pytest.raises(KeyErasedError):
        last.wallet("wallet-0")
    new = last.vault.sealed(WALLET, "wallet-2")
    assert last.wallet("wallet-2") == wallets["wallet-2"] == new.address


def test_a_key_erased_while_it_is_rewrapped_stays_erased(folder: Folder) -> None:
    opened = folder.open()
    opened.wallet("wallet-1")
    add_master_key(folder.key_file)
    racing = folder.open()
    replace = racing.store.replace_wrapping

    def erase_first(*values: Any) -> None:
        opened.care.erase_wallet_key("wallet-1")
        replace(*values)

    racing.store.replace_wrapping = erase_first  # type: ignore[method-assign]
    racing.care.rewrap_batch()
    with pytest.raises(KeyErasedError):
        folder.open().wallet("wallet-1")


def test_a_trial_opening_finds_a_key_under_a_wrong_address(folder: Folder) -> None:
    opened = folder.open()
    secret, context = os.urandom(32), Context(WALLET, "wallet-1", "0x" + "22" * 20)
    row = SealedKey(WALLET, "wallet-1", 1, context.address, "", *seal(secret, context, opened.provider))
    assert opened.store.commit(None, [row], None, [])
    with pytest.raises(SealBrokenError, match="another key"):
        opened.care.trial_open()


# people ---------------------------------------------------------------------------------------------------------------


def test_a_pseudonym_is_durable_private_and_can_be_revealed(folder: Folder) -> None:
    subjects = folder.open((SERVICE,)).subjects
    hana = subjects.pseudonym("aozora-foods", "hana@example.com")
    assert len(bytes.fromhex(hana)) == 16
    again = folder.open().subjects
    assert again.pseudonym("aozora-foods", "hana@example.com") == hana
    others = {again.pseudonym(*of) for of in (("kita", "hana@example.com"), ("aozora-foods", "ren"), ("a", "b"))}
    assert len(others | {hana}) == 4
    assert again.reveal(hana) == ("aozora-foods", "hana@example.com")
    assert again.reveal("00" * 16) is None
    assert b"hana@" not in b"".join(path.read_bytes() for path in folder.path.glob("vault.db*"))


@pytest.mark.parametrize(("company", "subject"), [("a", ""), ("a", "x" * 5_000)])
def test_a_subject_without_a_name_or_with_an_endless_one_is_refused(opened: Opened, company: str, subject: str) -> None:
    with pytest.raises(ValueError, match="characters"):
        opened.subjects.pseudonym(company, subject)


def test_one_user_seen_by_many_threads_at_once_gets_one_pseudonym(folder: Folder) -> None:
    folder.open()
    start = threading.Barrier(8)
    found: list[str] = []

    def ask(opened: Opened) -> None:
        start.wait()
        found.append(opened.subjects.pseudonym("aozora-foods", "hana"))

    several = [folder.open() for _ in range(4)]
    threads = [threading.Thread(target=ask, args=(several[i % 4],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_vault_that_cannot_be_written_is_unavailable_and_recovers_alone(folder: Folder) -> None:
    opened = folder.open()
    hana = opened.subjects.pseudonym("aozora-foods", "hana")
    opened.store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageUnavailable, match="vault"):
        opened.subjects.pseudonym("aozora-foods", "ren")
    with pytest.raises(StorageUnavailable):
        opened.wallet("wallet-1")
    assert opened.subjects.pseudonym("aozora-foods", "hana") == hana
    opened.store._db.execute("PRAGMA query_only = OFF")
    assert opened.subjects.reveal(opened.subjects.pseudonym("aozora-foods", "ren")) == ("aozora-foods", "ren")


def test_an_erased_subject_is_forgotten_for_good_and_comes_back_as_somebody_else(folder: Folder) -> None:
    opened = folder.open()
    hana = opened.subjects.pseudonym("aozora-foods", "hana")
    row = opened.store.subject(hana)
    assert row is not None
    assert opened.subjects.erase_subject(hana)
    assert not opened.subjects.erase_subject(hana)
    assert opened.subjects.reveal(hana) is None
    on_disk = b"".join(path.read_bytes() for path in folder.path.glob("vault.db*"))
    assert row[3] not in on_disk
    assert row[5] not in on_disk
    assert opened.subjects.pseudonym("aozora-foods", "hana") != hana


# secrets stay secret --------------------------------------------------------------------------------------------------


def test_no_object_error_or_log_line_shows_a_secret(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    opened = folder.open()
    opened.initialise()
    opened.wallet("wallet-1")
    session = opened.session()
    session.sign("t", WALLET, "wallet-1", opened.vault.sealed(WALLET, "wallet-1").address, DIGEST)
    key = opened.vault.sealed(WALLET, "wallet-1")
    note_key = opened.vault.open_note_key(PROMISE)
    shown = [repr(x) + str(x) for x in (opened.vault, opened.provider, session, key, note_key, opened.subjects)]
    for broken in (key._replace(kek=7), key._replace(owner="x"), key._replace(ciphertext=b"x" * 48)):
        with pytest.raises((SealBrokenError, MasterKeyError)) as refusal:
            opened.vault.unseal(broken)
        shown.append(repr(refusal.value) + repr(refusal.value.__cause__))
    shown.append(caplog.text)
    secrets = [secret_of(opened, purpose, owner) for purpose, owner in ((WALLET, "wallet-1"), (PROMISE, ""), (LOG, ""))]
    secrets += [bytes.fromhex(key) for key in _hex_keys(folder.key_file)]
    for secret in secrets:
        for spelling in (secret.hex(), repr(secret)[2:-1], str(int.from_bytes(secret, "big"))):
            assert not any(spelling in text for text in shown)
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(note_key)


def _hex_keys(path: Path) -> list[str]:
    return [word for word in path.read_text().split('"') if len(word) == 64]
