"""The vault in PostgreSQL (see storage.vault_store): ciphertext only, shared by the signers of several machines.

What an erasure promises here: the row holds nothing any more and every later backup and replica neither. What it cannot
promise: that the old row's bytes are gone from free pages, the write-ahead log and earlier backups, which PostgreSQL
keeps for its own time. The data key in them is wrapped by the master key: rotate it (`daicho keys rotate`) and destroy
the old version to make them unreadable.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from domain.errors import StorageUnavailable
from storage.postgres.database import Database, DatabaseUrlError, MarkedCursor, Session
from storage.vault_store import AuditRow, VaultSql, VaultTables

_LOCK = "vault"


class PostgresVaultStore(VaultTables):
    """One book's vault. Any thread, any number of processes. Raises StorageUnavailable."""

    T: ClassVar[str] = "vault_"
    TAKEN: ClassVar[tuple[type[BaseException], ...]] = (psycopg.errors.IntegrityError,)

    def __init__(self, database: Database) -> None:
        self._session = Session(database, "vault", keep=self.TAKEN)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _rows(self, statement: str, *values: object) -> list[Any]:
        return self._session.rows(statement.replace("?", "%s"), values)

    @contextmanager
    def _transaction(self) -> Iterator[VaultSql]:
        """Under a lock that all signers share: whoever signs a head sees the last one."""
        with self._session.transaction(advisory_lock=_LOCK) as cursor:
            yield MarkedCursor(cursor)

    def _erase(self, table: str, where: str, values: tuple[str, ...], audit: AuditRow, also: str = "") -> int:
        with self._transaction() as db:
            erased = self._overwrite(db, table, where, values, also)
            if erased:
                db.execute(self._audit(), audit)
        return erased


def open_vault(file: Path) -> PostgresVaultStore:
    """The vault that a file (mode 0600) names: the book on its first line, the connection string on its second.

    For the signer process, whose command line others can see. Raises OSError, without repeating what the file holds.
    """
    if file.stat().st_mode & 0o077:
        raise PermissionError(f"{file} is open to group or others (it holds a password): chmod 600")
    try:
        book, _, conninfo = file.read_text("utf-8").partition("\n")
        store = PostgresVaultStore(Database(conninfo.strip(), book))
    except (DatabaseUrlError, UnicodeDecodeError):
        raise OSError(f"{file} names no database") from None
    try:
        store.identity()
    except StorageUnavailable as error:
        store.close()
        raise OSError(f"the vault's database cannot be used: {error.values['reason']}") from None
    return store
