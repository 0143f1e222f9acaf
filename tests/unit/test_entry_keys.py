"""Command keys in entries: unguessable from outside, neighbours in time are neighbours in the index, never the same."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.entry import Actor, command_key_hash
from domain.ids import IdSource, _refill, is_uuid7

ORIGIN = "daicho.invalid/keys"
ACTOR = Actor("aozora", "ab" * 16)
WORDS = st.text("ab:0127-", max_size=8)
UUIDS = st.integers(0, 3).map(lambda n: f"01938a5e-7c00-7aaa-aaaa-00000000000{n}")
KEYS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    WORDS,
    UUIDS,
    st.tuples(WORDS | UUIDS, st.integers(0, 10**9)).map(lambda pair: f"{pair[0]}:{pair[1]}"),
    st.tuples(WORDS, st.integers(0, 12), st.integers(0, 12)).map(lambda parts: ":".join(map(str, parts))),
)


def key_hash(key: str, origin: str = ORIGIN, actor: Actor = ACTOR) -> str:
    return command_key_hash(origin, actor, key)


@given(st.lists(KEYS, unique=True, max_size=30))
def test_no_two_keys_of_any_form_have_one_hash(keys: list[str]) -> None:
    hashes = {key_hash(key) for key in keys}
    assert len(hashes) == len(keys)
    assert all(re.fullmatch(r"[0-9a-f]{64}", found) for found in hashes)


@given(KEYS)
def test_a_key_is_one_users_of_one_company_of_one_log(key: str) -> None:
    others = [
        key_hash(key, "daicho.invalid/other"),
        key_hash(key, actor=Actor("kita", ACTOR.subject)),
        key_hash(key, actor=Actor("aozora", "cd" * 16)),
        key_hash(key, actor=Actor("", ACTOR.subject)),
    ]
    assert len({key_hash(key), *others}) == 5
    assert key_hash(key) == key_hash(key)


def test_lines_of_a_line_are_not_the_lines_of_the_stem() -> None:
    keys = ["a", "a:1", "a:2", "a:1:2", "a:2:1", "a:1:2:3", ":1", "a::1", "a:01", "a:1:02"]
    assert len({key_hash(key) for key in keys}) == len(keys)


def test_the_lines_of_a_bulk_stand_side_by_side_in_their_order() -> None:
    lines = [key_hash(f"bulk:{number}") for number in range(300)]
    assert lines == sorted(lines)
    assert len({line[:56] for line in lines}) == 1
    assert [int(line[56:], 16) for line in lines] == list(range(300))
    assert key_hash("bulk:99999999")[56:] == f"{99_999_999:08x}"


@pytest.mark.parametrize("line", ["01", "-1", "+1", "1e3", "100000000", "", " 1", "\u0661", "1\n", "x"])
def test_what_is_no_line_number_is_part_of_the_key(line: str) -> None:
    assert key_hash(f"bulk:{line}")[:56] != key_hash("bulk:1")[:56]


def test_uuid7_keys_keep_their_time_in_front() -> None:
    early, late = "01938a5e-7c00-7aaa-aaaa-0123456789ab", "01938a5e-7c01-7aaa-aaaa-0123456789ab"
    assert key_hash(early).startswith("01938a5e7c00")
    assert key_hash(early) < key_hash(late)
    assert key_hash(f"{early}:5").startswith("01938a5e7c00")
    assert key_hash(early.upper()).startswith("01938a5e7c00")
    assert key_hash(early.upper()) != key_hash(early)


@pytest.mark.parametrize(
    "key",
    [
        "01938a5e-7c00-4aaa-aaaa-0123456789ab",
        "01938a5e_7c00-7aaa-aaaa-0123456789ab",
        "01938a5g-7c00-7aaa-aaaa-0123456789ab",
    ],
)
def test_other_keys_of_that_length_tell_nothing(key: str) -> None:
    assert not key_hash(key).startswith("01938a5")


def test_new_ids_are_uuid7_grow_with_time_and_never_repeat() -> None:
    ids = IdSource()
    made = [ids.uuid7() for _ in range(2000)]
    assert all(is_uuid7(one) for one in made)
    assert [one[:13] for one in made] == sorted(one[:13] for one in made)
    assert len(set(made)) == 2000
    nonces = [ids.nonce() for _ in range(500)]
    assert len(set(nonces)) == 500
    assert all(re.fullmatch(r"0x[0-9a-f]{64}", nonce) for nonce in nonces)
    salts = [ids.random128() for _ in range(1500)]
    assert len(set(salts)) == 1500
    assert {len(salt) for salt in salts} == {32}


def test_a_fork_does_not_repeat_its_parents_bits() -> None:
    ids = IdSource()
    ids.random128()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, ids.random128().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 32).decode() != ids.random128()
    os.close(reader)
    os.close(writer)
    before = ids.random128
    _refill(ids)  # what the child did, where coverage sees it
    assert ids.random128 is not before
    _refill(None)  # a source that is gone by then


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "01938a5e7c007aaaaaaa0123456789ab",
        "01938A5E-7C00-7AAA-AAAA-0123456789AB",
        "01938a5e-7c00-4aaa-aaaa-0123456789ab",
        "{01938a5e-7c00-7aaa-aaaa-0123456789ab}",
        "01938a5e-7c00-7aaa-0aaa-0123456789ab",
    ],
)
def test_what_is_not_the_canonical_form_of_a_uuid7_is_none(text: str) -> None:
    assert not is_uuid7(text)
