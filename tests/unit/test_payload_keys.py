"""What stores send is sealed under keys that can be destroyed one by one, and its ciphertext is the same every time."""

import os
from pathlib import Path

import pytest

from chain.envelope import SealBrokenError
from chain.master_key import add_master_key
from chain.payload_keys import REMEMBERED_SECONDS, PayloadKeys
from chain.vault import KeyErasedError, UnknownKeyError
from tests.vault_support import Folder

PAYLOAD = b'{"signedPayload":"eyJ"}' * 1_000
LINE, OTHER = "b1946ac9-2492-5347-9c4a-1d2e4f1f9d0a", "5d41402a-bc4b-5a76-9719-d911017c592e"


def keys_of(path: Path) -> PayloadKeys:
    opened = Folder(path).open(("service",))
    return PayloadKeys(opened.vault, opened.store)


@pytest.fixture
def keys(tmp_path: Path) -> PayloadKeys:
    return keys_of(tmp_path)


def test_a_payload_comes_back_as_it_was_in_any_process(keys: PayloadKeys, tmp_path: Path) -> None:
    sealed = keys.seal(LINE, PAYLOAD)
    assert keys.open(LINE, sealed) == PAYLOAD
    assert keys_of(tmp_path).open(LINE, sealed) == PAYLOAD
    assert keys.open(LINE, keys.seal(LINE, b"")) == b""


def test_the_same_payload_gives_the_same_bytes_and_another_one_others(keys: PayloadKeys, tmp_path: Path) -> None:
    sealed = keys.seal(LINE, PAYLOAD)
    assert keys.seal(LINE, PAYLOAD) == keys_of(tmp_path).seal(LINE, PAYLOAD) == sealed
    assert keys.seal(LINE, PAYLOAD + b" ")[:45] != sealed[:45], "the nonce is another one"
    assert keys.seal(OTHER, PAYLOAD) != sealed
    assert len(sealed) == len(PAYLOAD) + 1 + 32 + 12 + 16


def test_nothing_of_the_payload_shows(keys: PayloadKeys) -> None:
    assert b"signedPayload" not in keys.seal(LINE, PAYLOAD)
    assert repr(keys) == "PayloadKeys()"


@pytest.mark.parametrize("at", [0, 1, 32, 33, 44, 45, 60, -1])
def test_an_altered_byte_is_noticed_wherever_it_is(keys: PayloadKeys, at: int) -> None:
    sealed = bytearray(keys.seal(LINE, PAYLOAD))
    sealed[at] ^= 1
    with pytest.raises(SealBrokenError):
        keys.open(LINE, bytes(sealed))


@pytest.mark.parametrize("rest", [b"", b"\x01", os.urandom(44), os.urandom(100)])
def test_what_was_never_sealed_does_not_open(keys: PayloadKeys, rest: bytes) -> None:
    commitment = keys.seal(LINE, b"")[:33]
    with pytest.raises(SealBrokenError):
        keys.open(LINE, rest)
    with pytest.raises(SealBrokenError):
        keys.open(LINE, commitment + rest[:11])


def test_a_payload_does_not_open_under_another_owner(keys: PayloadKeys) -> None:
    sealed = keys.seal(LINE, PAYLOAD)
    with pytest.raises(UnknownKeyError):
        keys.open(OTHER, sealed)
    keys.seal(OTHER, PAYLOAD)
    with pytest.raises(SealBrokenError):
        keys.open(OTHER, sealed)


def test_a_destroyed_key_takes_everything_with_it_for_good(keys: PayloadKeys, tmp_path: Path) -> None:
    sealed, kept = keys.seal(LINE, PAYLOAD), keys.seal(OTHER, PAYLOAD)
    assert keys.erase(LINE, "operator")
    assert not keys.erase(LINE), "there is nothing left"
    for each in (keys, keys_of(tmp_path)):
        with pytest.raises(KeyErasedError):
            each.open(LINE, sealed)
        with pytest.raises(KeyErasedError):
            each.seal(LINE, PAYLOAD)
        assert each.open(OTHER, kept) == PAYLOAD


def test_another_process_forgets_a_destroyed_key_within_a_minute(tmp_path: Path) -> None:
    clock = [1_000.0]
    opened = Folder(tmp_path).open(("service",))
    mine, theirs = PayloadKeys(opened.vault, opened.store, now=lambda: clock[0]), keys_of(tmp_path)
    sealed = mine.seal(LINE, PAYLOAD)
    theirs.erase(LINE)
    assert mine.open(LINE, sealed) == PAYLOAD
    clock[0] += REMEMBERED_SECONDS
    with pytest.raises(KeyErasedError):
        mine.open(LINE, sealed)


def test_a_new_master_key_changes_nothing_about_what_is_sealed(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    before = keys_of(tmp_path).seal(LINE, PAYLOAD)
    add_master_key(folder.key_file)
    assert keys_of(tmp_path).seal(LINE, PAYLOAD) == before


def test_two_processes_that_make_a_key_at_once_end_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = keys_of(tmp_path), keys_of(tmp_path)
    commit, sealed = first._vault.store.commit, []

    def late(*arguments: object) -> bool:
        sealed.append(second.seal(LINE, PAYLOAD))
        return bool(commit(*arguments))  # type: ignore[arg-type]

    monkeypatch.setattr(first._vault.store, "commit", late)
    assert first.seal(LINE, PAYLOAD) == sealed[0]


def test_no_more_keys_are_held_open_than_a_few_thousand(keys: PayloadKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.payload_keys._REMEMBERED", 2)
    for owner in ("a", "b", "c"):
        keys.seal(owner, PAYLOAD)
    assert list(keys._opened) == ["b", "c"]
    assert keys.open("a", keys.seal("a", PAYLOAD)) == PAYLOAD
