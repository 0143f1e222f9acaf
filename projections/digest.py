"""Are two read models equal? Row by row, each held at one moment, and the first row that differs by name."""

import hashlib
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final

import msgspec

from projections.position import ProjectionStopped
from projections.schema import TABLES_OF_SOURCE
from projections.store import AnyReadStore, Connection, Source, progress, snapshot

_FETCH_ROWS: Final = 1_000
_PROGRESS: Final = ("position", "leaf", "log")


class Digest(msgspec.Struct, frozen=True):
    """SHA-256 of every table of a source (hex digits, by name) at a position."""

    position: int
    leaf: str
    tables: dict[str, str]


class Difference(msgspec.Struct, frozen=True):
    """The first row (in order of its key) that differs; a row that is missing is null."""

    source: Source
    table: str
    live: dict[str, Any] | None
    replayed: dict[str, Any] | None


def digest(store: AnyReadStore, up_to: int | None = None, source: Source = "entries") -> Digest:
    """The digest of a store's tables; ProjectionStopped when it does not stand at `up_to`."""
    with store.snapshot() as connection:
        at, leaf, _ = progress(connection, source)
        if up_to is not None and at != up_to:
            raise ProjectionStopped(f"the read models stand at {at}, not at {up_to}", at)
        tables = {}
        for table in TABLES_OF_SOURCE[source]:
            sha = hashlib.sha256()
            for row in _rows(connection, source, table):
                sha.update(repr(row).encode())
            tables[table] = sha.hexdigest()
    return Digest(at, leaf.hex(), tables)


def first_difference(live: Connection, replayed: Connection, source: Source) -> Difference | None:
    """Compare all tables of a source, None when they are equal. Both connections are held at one moment meanwhile."""
    with snapshot(live), snapshot(replayed):
        ours, theirs = progress(live, source), progress(replayed, source)
        if ours != theirs:
            return Difference(source, "progress", _shown(_PROGRESS, ours), _shown(_PROGRESS, theirs))
        for table in TABLES_OF_SOURCE[source]:
            names = _columns(live, table)
            for mine, other in zip_longest(_rows(live, source, table), _rows(replayed, source, table)):
                if mine != other:
                    return Difference(source, table, _shown(names, mine), _shown(names, other))
    return None


def _rows(connection: Connection, source: Source, table: str) -> Iterator[tuple[Any, ...]]:
    cursor = connection.execute(f"SELECT * FROM {table} ORDER BY {TABLES_OF_SOURCE[source][table]}")
    while rows := cursor.fetchmany(_FETCH_ROWS):
        yield from rows


def _columns(connection: Connection, table: str) -> tuple[str, ...]:
    return tuple(name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall())


def _shown(names: tuple[str, ...], row: tuple[Any, ...] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {name: _text(name, value) for name, value in zip(names, row, strict=True)}


def _text(name: str, value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    return value.hex() if name == "leaf" else value.decode(errors="replace")
