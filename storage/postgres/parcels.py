"""The inbox in PostgreSQL (`storage.parcels`)."""

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from domain.orders import Parcel
from storage.parcels import COLUMNS, StoredParcel, numbered
from storage.postgres.database import Database, Row, Session

_INSERT: Final = (
    f"INSERT INTO {{parcels}} ({COLUMNS})"
    " SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::text[], %b::text[], %b::bytea[], %b::bytea[], %b::bytea[])"
)


def insert_parcels(cursor: psycopg.Cursor[Row], table: sql.Identifier, parcels: Sequence[tuple[int, Parcel]]) -> None:
    """Store parcels inside the writer's transaction, whose lock makes their numbers gapless."""
    row = cursor.execute(sql.SQL("SELECT coalesce(max(number), 0) FROM {}").format(table)).fetchone()
    rows = numbered(int(row[0]) if row else 0, parcels)
    cursor.execute(sql.SQL(_INSERT).format(parcels=table), [list(column) for column in zip(*rows, strict=True)])


class PostgresParcels:
    """The inbox of one book, from any thread. Raises StorageUnavailable."""

    def __init__(self, database: Database, table: str = "stored_events") -> None:
        self._session = Session(database, "inbox")
        self._table = f"{table}_parcels"

    def head(self) -> int:
        """The last number, 0 in an empty inbox."""
        return int(self._rows("SELECT coalesce(max(number), 0) FROM {parcels}")[0][0])

    def read(self, start: int, limit: int) -> list[StoredParcel]:
        """At most so many from a number on, ascending."""
        statement = f"SELECT {COLUMNS} FROM {{parcels}} WHERE number >= %s ORDER BY number LIMIT %s"
        return [_stored(row) for row in self._rows(statement, start, limit)]

    def of_payload(self, payload: str) -> StoredParcel | None:
        """The (first) parcel with that hash."""
        statement = f"SELECT {COLUMNS} FROM {{parcels}} WHERE payload = %s ORDER BY number LIMIT 1"
        rows = self._rows(statement, payload)
        return _stored(rows[0]) if rows else None

    def owners(self, payloads: Sequence[str]) -> dict[str, str]:
        """The owner of each of these payloads that is here."""
        rows = self._rows("SELECT payload, owner FROM {parcels} WHERE payload = ANY(%s)", list(payloads))
        return {str(payload): str(owner) for payload, owner in rows}

    def of_owner(self, owner: str, start: int, limit: int) -> list[StoredParcel]:
        """At most so many of an owner's parcels from a number on, ascending."""
        statement = f"SELECT {COLUMNS} FROM {{parcels}} WHERE owner = %s AND number >= %s ORDER BY number LIMIT %s"
        return [_stored(row) for row in self._rows(statement, owner, start, limit)]

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _rows(self, statement: str, *values: object) -> list[Row]:
        return self._session.rows(statement.format(parcels=self._table), values)


def _stored(row: Any) -> StoredParcel:
    number, position, payload, owner, *blobs = row
    return StoredParcel(number, position, payload, owner, *map(bytes, blobs))
