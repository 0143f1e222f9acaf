"""The entry format: canonical bytes as RFC 8785 has them, one time format, one size limit."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from domain.aggregate import EVENT_TYPES
from domain.entry import (
    MAX_ENTRY_BYTES,
    Actor,
    CommandRef,
    Entry,
    body_hash,
    canonical,
    decode_envelope,
    decode_stamp,
    entry_leaf_hash,
    format_time,
    parse_time,
)
from domain.errors import EntryTooLarge
from domain.mapper import EntryMapper, UnknownEventType
from tests.entry_factory import walk

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ASCII_KEYS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=8)
PROFILE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ASCII_KEYS, inner, max_size=5),
    max_leaves=20,
)


def entry(**changes: Any) -> Entry:
    values: dict[str, Any] = {
        "actor": Actor("aozora", "ab" * 16),
        "aggregate": "Company",
        "aggregate_id": "id",
        "command": CommandRef(body="0" * 64, key="1" * 64),
        "data": {"code": "aozora", "name": "青空"},
        "id": "01938a5e-7c00-7aaa-aaaa-000000000000",
        "log": "",
        "position": 0,
        "recorded_at": "",
        "salt": "cd" * 16,
        "type": "CompanyRegistered",
        "v": 1,
        "version": 1,
    }
    return Entry(**{**values, **changes})


@given(PROFILE)
def test_canonical_bytes_are_those_of_rfc_8785(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(st.characters(exclude_categories=["Cs"]))
def test_every_character_is_written_as_rfc_8785_writes_it(character: str) -> None:
    assert canonical({"c": character}) == rfc8785.dumps({"c": character})


@pytest.mark.parametrize("code", [*range(0x20), 0x22, 0x2F, 0x5C, 0x7F, 0x80, 0x2028, 0x2029, 0xFEFF, 0xFFFF, 0x1F600])
def test_control_and_odd_characters_are_escaped_as_rfc_8785_does(code: int) -> None:
    assert canonical(chr(code)) == rfc8785.dumps(chr(code))


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_entries_of_any_walk_are_canonical_and_keep_their_bytes(seed: int, count: int) -> None:
    for _, state in walk(seed, count).factory.records:
        assert rfc8785.dumps(json.loads(state)) == state
        assert canonical(decode_envelope(state)) == state


@given(TEXTS, st.integers(1, 2**53 - 1))
def test_sealing_fixes_log_position_and_time_and_nothing_else(name: str, position: int) -> None:
    draft = entry(data={"code": "x", "name": name})
    state = draft.seal("log", position, "2026-11-22T05:02:32.123456Z")
    assert state == rfc8785.dumps(json.loads(state))
    assert draft.state == state
    assert decode_stamp(state) == decode_stamp(canonical(decode_envelope(state)))
    decoded = json.loads(state)
    assert (decoded["log"], decoded["position"], decoded["recorded_at"]) == (
        "log",
        position,
        "2026-11-22T05:02:32.123456Z",
    )
    assert sorted(decoded) == list(decoded)
    assert len(decoded) == 13
    assert draft.seal("log", position + 1, "2026-11-22T05:02:32.123456Z") != state


def test_an_entry_has_at_most_65535_bytes() -> None:
    empty = len(entry(data={"code": "x", "name": ""}).seal("log", 1, "t"))
    fits = entry(data={"code": "x", "name": "a" * (MAX_ENTRY_BYTES - empty)})
    assert len(fits.seal("log", 1, "t")) == MAX_ENTRY_BYTES == 65_535
    with pytest.raises(EntryTooLarge) as refused:
        fits.seal("log", 10, "t")
    assert refused.value.values["size_bytes"] == 65_536


def test_the_library_finds_in_an_entry_what_it_needs_of_a_stored_event() -> None:
    draft = entry(version=7)
    assert (draft.originator_id, draft.originator_version, draft.topic) == ("id", 7, "CompanyRegistered")


@given(st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001
def test_times_are_utc_with_microseconds_and_sort_as_text(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    text = format_time(aware)
    assert (len(text), text[-1], parse_time(text)) == (27, "Z", aware)
    assert format_time(datetime(1000, 1, 1, tzinfo=UTC)) <= text


def test_a_leaf_is_hashed_with_the_prefix_of_rfc_6962() -> None:
    assert entry_leaf_hash(b"abc") == hashlib.sha256(b"\x00abc").digest()
    assert body_hash(b"abc") == hashlib.sha256(b"abc").hexdigest()


def mapper() -> EntryMapper:
    return EntryMapper(transcoder=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"type": "NobodyKnows"}, {"v": 2}, {"v": 0}])
def test_an_entry_of_another_release_is_refused_and_not_guessed_at(changes: dict[str, Any]) -> None:
    ours = mapper()
    ours.event_of(entry().seal("log", 1, "t"))
    with pytest.raises(UnknownEventType, match="entry 1"):
        ours.event_of(entry(**changes).seal("log", 1, "t"))
    with pytest.raises(UnknownEventType):
        mapper().event_of(entry(**changes).seal("log", 1, "t"))


@pytest.mark.parametrize("data", [{"code": "x"}, {"code": "x", "name": "y", "more": 1}, {"code": 1, "name": "y"}, []])
def test_data_that_are_not_the_types_are_refused(data: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        mapper().event_of(entry(data=data).seal("log", 1, "t"))


def test_entries_are_stored_as_they_are_neither_compressed_nor_encrypted() -> None:
    for part in ({"compressor": object()}, {"cipher": object()}):
        with pytest.raises(ValueError, match="neither compressor nor cipher"):
            EntryMapper(transcoder=None, **part)  # type: ignore[arg-type]


def test_every_event_type_has_one_name_and_one_aggregate() -> None:
    assert {kind.TYPE for kind in EVENT_TYPES.values()} == set(EVENT_TYPES)
    assert all(kind.VERSION >= 1 and kind.__doc__ for kind in EVENT_TYPES.values())
