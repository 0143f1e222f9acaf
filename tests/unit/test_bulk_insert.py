"""Rows stored by one statement are the rows that were given, however many there are."""

import sqlite3

import pytest

from storage.bulk_insert import insert_rows


@pytest.fixture
def table() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE kept (number INTEGER PRIMARY KEY, name TEXT NOT NULL, body BLOB NOT NULL)")
    return connection


@pytest.mark.parametrize("count", [0, 1, 2, 1023, 1024, 1025, 5000])
def test_every_row_is_stored_once_in_order_with_its_types(table: sqlite3.Connection, count: int) -> None:
    rows = [(number, f"n{number}", b"\x00" * (number % 7)) for number in range(count)]
    insert_rows(table, "kept", rows)
    assert table.execute("SELECT number, name, body FROM kept ORDER BY number").fetchall() == rows


def test_one_bad_row_leaves_nothing_of_its_statement(table: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        insert_rows(table, "kept", [(1, "a", b""), (2, "b", b""), (1, "c", b"")])
    assert table.execute("SELECT COUNT(*) FROM kept").fetchone() == (0,)
