"""Parameters and cursors: parsed once, refused with the parameter's name and rule, never guessed."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from api.cursors import Cursors
from api.errors import BadCursor, BadParameter
from api.params import (
    AS_OF,
    CODE,
    CURRENCY,
    DAY,
    DRY_RUN,
    ID,
    LIMIT,
    MIN_POSITION,
    POSITION,
    Param,
    choice,
    command_key,
    expected_version,
    parse_query,
    text,
)

STATE = choice("state", "", "recorded", "confirmed")
TEXT = text("text", "", "x")
KNOWN: dict[str, Param] = {p.name: p for p in (STATE, TEXT, LIMIT, AS_OF, DRY_RUN)}


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (b"state=recorded", {"state": "recorded"}),
        (b"text=%E8%8C%B6+%26&limit=10", {"text": "茶 &", "limit": 10}),
        (b"as_of=17", {"as_of": 17}),
        (b"as_of=2026-11-22T05:02:32.5Z", {"as_of": "2026-11-22T05:02:32.500000Z"}),
        (b"as_of=2026-11-22T14:02:32%2B09:00", {"as_of": "2026-11-22T05:02:32.000000Z"}),
        (b"dry_run=true", {"dry_run": True}),
        (b"", {}),
    ],
)
def test_a_query_becomes_values(raw: bytes, values: dict[str, Any]) -> None:
    assert parse_query(raw, KNOWN) == values


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"stat=recorded", "stat"),
        (b"state=lost", "state"),
        (b"state=", "state"),
        (b"state=recorded&state=recorded", "state"),
        (b"limit=0", "limit"),
        (b"limit=1001", "limit"),
        (b"limit=-1", "limit"),
        (b"limit=1e3", "limit"),
        (b"limit=010", "limit"),
        (b"limit=" + b"9" * 400, "limit"),
        ("limit=١٢".encode(), "query"),
        (b"limit=%D9%A1", "limit"),
        (b"as_of=0", "as_of"),
        (b"as_of=9223372036854775808", "as_of"),
        (b"as_of=2026-11-22T05:02:32", "as_of"),
        (b"as_of=yesterday", "as_of"),
        (b"as_of=0001-01-01T00:00:00Z", "as_of"),
        (b"as_of=9999-12-31T23:59:59-12:00", "as_of"),
        (b"dry_run=1", "dry_run"),
        (b"dry_run=True", "dry_run"),
        (b"text=", "text"),
        (b"text=" + b"a" * 201, "text"),
        (b"text=%00", "text"),
        (b"text=%ff", "query"),
        (b"text=\xe8", "query"),
        (b"&".join([b"text=a"] * 60), "query"),
        (b"x" * 9000, "query"),
    ],
)
def test_a_query_that_is_not_understood_is_refused_by_name(raw: bytes, field: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse_query(raw, KNOWN)
    assert caught.value.values["field"] == field
    assert caught.value.values["rule"]


@pytest.mark.parametrize(
    ("param", "given"),
    [
        (POSITION, "0"), (POSITION, "-1"), (POSITION, "9223372036854775808"), (POSITION, "1.0"), (POSITION, "1_0"),
        (MIN_POSITION, "-1"), (CODE, "A"), (CODE, "a"), (CODE, "a" * 41), (CODE, "-a"), (CODE, "aa\n"), (ID, "x"),
        (ID, "01938A5E-7C00-7AAA-AAAA-0123456789AB"), (DAY, "2026-02-30"), (DAY, "2026-2-3"), (CURRENCY, "jpy"),
        (CURRENCY, "XXX"),
    ],
)  # fmt: skip
def test_a_value_outside_its_kind_is_refused(param: Param, given: str) -> None:
    with pytest.raises(BadParameter) as caught:
        param.value_of(given)
    assert caught.value.values["given"] == given


@pytest.mark.parametrize("header", [None, b"", b" ", b"a b", b"a" * 256, "ключ".encode(), b"a\n", b"a\x00"])
def test_a_command_key_is_one_to_255_visible_ascii_characters(header: bytes | None) -> None:
    with pytest.raises(BadParameter):
        command_key(header)
    assert command_key(b"~" * 255) == "~" * 255


def test_if_match_takes_one_strong_etag() -> None:
    assert expected_version(b'"3"') == 3
    assert expected_version(None) is None
    assert expected_version(b"*") is None
    for wrong in (b"3", b'W/"3"', b'"3","4"', b'"x"', b'""', b'"' + b"9" * 40 + b'"'):
        with pytest.raises(BadParameter):
            expected_version(wrong)


class TestCursors:
    cursors = Cursors(b"a secret of the server")

    def test_a_cursor_comes_back_as_what_it_was_given_for(self) -> None:
        for number in (0, 1, 17, 2**63 - 1):
            assert self.cursors.take(self.cursors.give(number, "trades", None), "trades", None) == number
        assert self.cursors.give(None, "trades") is None
        assert self.cursors.take(None, "trades") is None

    def test_a_cursor_outlives_the_process_that_gave_it(self) -> None:
        cursor = self.cursors.give(17, "trades")
        assert Cursors(b"a secret of the server").take(cursor, "trades") == 17

    def test_any_change_of_a_cursor_is_refused(self) -> None:
        cursor = self.cursors.give(17, "trades")
        assert cursor is not None
        raw = base64.urlsafe_b64decode(cursor)
        for at in range(len(raw)):
            changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
            with pytest.raises(BadCursor):
                self.cursors.take(base64.urlsafe_b64encode(changed).decode(), "trades")

    @pytest.mark.parametrize("text", ["", "a", "====", "17", "茶", "A" * 32, "A" * 4000, "AAAA\nAAAA"])
    def test_any_other_text_is_refused(self, text: str) -> None:
        with pytest.raises(BadCursor):
            self.cursors.take(text, "trades")

    def test_a_cursor_is_of_one_list_one_viewer_and_one_filter(self) -> None:
        cursor = self.cursors.give(17, "trades", "aozora", {"state": "recorded"})
        for context in (
            ("wallets", "aozora", {"state": "recorded"}),
            ("trades", "kaede", {"state": "recorded"}),
            ("trades", "aozora", {"state": "settled"}),
        ):
            with pytest.raises(BadCursor):
                self.cursors.take(cursor, *context)
        with pytest.raises(BadCursor):
            Cursors(b"the secret of another server").take(cursor, "trades", "aozora", {"state": "recorded"})


def test_times_are_written_as_entries_write_them() -> None:
    assert AS_OF.value_of("2026-11-22T05:02:32+00:00") == "2026-11-22T05:02:32.000000Z"
    assert datetime.fromisoformat(AS_OF.value_of("2026-11-22T05:02:32Z")).tzinfo == UTC
