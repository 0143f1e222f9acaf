"""vault.db: sealed keys and subjects, the last signed head and the audit rows, in one SQLite file.

Holds ciphertext only. `secure_delete` and a truncated write-ahead log make an erasure reach the disk, not
just the index: a destroyed data key must not survive in a free page.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from domain.errors import StorageUnavailable

_BUSY_TIMEOUT_SECONDS = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS identity(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  origin TEXT NOT NULL, chain_id INTEGER NOT NULL, contract TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS keys(
  purpose TEXT NOT NULL, owner TEXT NOT NULL, version INTEGER NOT NULL, address TEXT NOT NULL,
  rotation TEXT NOT NULL, kek INTEGER NOT NULL, wrap_nonce BLOB NOT NULL, wrapped_key BLOB NOT NULL,
  nonce BLOB NOT NULL, ciphertext BLOB NOT NULL,
  PRIMARY KEY(purpose, owner, version), UNIQUE(purpose, owner, address), UNIQUE(purpose, owner, rotation)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_kek ON keys(kek);
CREATE TABLE IF NOT EXISTS head(
  id INTEGER PRIMARY KEY CHECK(id = 1), size INTEGER NOT NULL, root BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS subjects(
  pseudonym TEXT PRIMARY KEY, lookup BLOB UNIQUE,
  kek INTEGER NOT NULL, wrap_nonce BLOB NOT NULL, wrapped_key BLOB NOT NULL,
  nonce BLOB NOT NULL, ciphertext BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS subjects_kek ON subjects(kek);
CREATE TABLE IF NOT EXISTS audit(
  seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL, purpose TEXT NOT NULL,
  owner TEXT NOT NULL, digest BLOB NOT NULL
) STRICT;
"""
_KEY = "purpose, owner, version, address, rotation, kek, wrap_nonce, wrapped_key, nonce, ciphertext"
_SUBJECT = "pseudonym, kek, wrap_nonce, wrapped_key, nonce, ciphertext"
KeyRow = tuple[str, str, int, str, str, int, bytes, bytes, bytes, bytes]
SubjectRow = tuple[str, int, bytes, bytes, bytes, bytes]
AuditRow = tuple[int, str, str, str, bytes]


class _OutrunError(Exception):
    """Somebody else wrote what this transaction took for granted."""


class VaultSql(Protocol):
    """An open transaction: statements with `?` for values."""

    def execute(self, statement: str, values: Sequence[object] = (), /) -> Any:
        """Run one; a cursor."""
        ...

    def executemany(self, statement: str, rows: Sequence[Sequence[object]], /) -> object:
        """Run one for every row."""
        ...


class VaultTables:
    """The vault's tables, whatever database they are in: the statements are the same for all.

    A subclass gives `_transaction` (all or nothing, durable at its end, one at a time) and `_rows`; `T` stands before
    each table's name, `TAKEN` are the errors of a key that is there already.
    """

    T: ClassVar[str] = ""
    TAKEN: ClassVar[tuple[type[BaseException], ...]] = ()

    def _transaction(self) -> AbstractContextManager[VaultSql]:
        raise NotImplementedError

    def _rows(self, statement: str, *values: object) -> list[Any]:
        raise NotImplementedError

    def _erase(self, table: str, where: str, values: tuple[str, ...], audit: AuditRow, also: str = "") -> int:
        raise NotImplementedError

    def _pin(self) -> str:
        table = f"{self.T}identity"
        return (
            f"INSERT INTO {table} VALUES(1, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET contract = excluded.contract"
            f" WHERE {table}.origin = excluded.origin AND {table}.chain_id = excluded.chain_id"
            f" AND {table}.contract IN ('', excluded.contract)"
        )

    def _audit(self) -> str:
        return f"INSERT INTO {self.T}audit(at_ms, who, purpose, owner, digest) VALUES(?, ?, ?, ?, ?)"

    def _overwrite(self, db: VaultSql, table: str, where: str, values: tuple[str, ...], also: str) -> int:
        """Put nothing in the place of what was sealed; how many rows had something."""
        empty = "kek = 0, wrap_nonce = ?, wrapped_key = ?, nonce = ?, ciphertext = ?"
        statement = f"UPDATE {self.T}{table} SET {empty}{also} WHERE {where} AND kek > 0"
        erased: int = db.execute(statement, (b"", b"", b"", b"", *values)).rowcount
        return erased

    def identity(self) -> tuple[str, int, str] | None:
        """Origin, chain id and contract, or None."""
        rows = self._rows(f"SELECT origin, chain_id, contract FROM {self.T}identity")
        return rows[0] if rows else None

    def key(self, purpose: str, owner: str, address: str) -> KeyRow | None:
        """One key by its address."""
        where = "purpose = ? AND owner = ? AND address = ?"
        rows = self._rows(f"SELECT {_KEY} FROM {self.T}keys WHERE {where}", purpose, owner, address)
        return rows[0] if rows else None

    def keys(self, purpose: str, owner: str) -> list[KeyRow]:
        """Every version of a key, oldest first."""
        where = "purpose = ? AND owner = ? ORDER BY version"
        return self._rows(f"SELECT {_KEY} FROM {self.T}keys WHERE {where}", purpose, owner)

    def head(self) -> tuple[int, bytes]:
        """Size and root of the last checkpoint signed, (0, b"") before the first."""
        rows = self._rows(f"SELECT size, root FROM {self.T}head")
        return rows[0] if rows else (0, b"")

    def commit(
        self,
        identity: tuple[str, int, str] | None,
        keys: Sequence[KeyRow],
        head: tuple[int, bytes, int, bytes] | None,
        audit: Sequence[AuditRow],
    ) -> bool:
        """Write all in one transaction, or nothing and False when somebody else was faster (see chain.vault).

        A crash inside leaves nothing; the write-ahead log is synced before this returns.
        """
        try:
            with self._transaction() as db:
                if identity is not None:
                    _require(db.execute(self._pin(), identity).rowcount == 1)
                db.executemany(f"INSERT INTO {self.T}keys({_KEY}) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", keys)
                if head is not None:
                    last = db.execute(f"SELECT size, root FROM {self.T}head").fetchone() or (0, b"")
                    _require(last == head[:2])
                    db.execute(
                        f"INSERT INTO {self.T}head VALUES(1, ?, ?)"
                        " ON CONFLICT(id) DO UPDATE SET size = excluded.size, root = excluded.root",
                        head[2:],
                    )
                db.executemany(self._audit(), audit)
        except (_OutrunError, *self.TAKEN):  # type: ignore[misc]  # mypy does not unpack a tuple here
            return False
        return True

    def stale_keys(self, kek: int, limit: int) -> list[KeyRow]:
        """Up to `limit` keys whose data key is not wrapped by master key `kek`."""
        return self._rows(f"SELECT {_KEY} FROM {self.T}keys WHERE kek NOT IN (0, ?) LIMIT ?", kek, limit)

    def stale_subjects(self, kek: int, limit: int) -> list[SubjectRow]:
        """Up to `limit` subjects whose data key is not wrapped by master key `kek`."""
        return self._rows(f"SELECT {_SUBJECT} FROM {self.T}subjects WHERE kek NOT IN (0, ?) LIMIT ?", kek, limit)

    def replace_wrapping(
        self,
        keys: Sequence[tuple[int, bytes, bytes, str, str, int, bytes]],
        subjects: Sequence[tuple[int, bytes, bytes, str, bytes]],
        audit: AuditRow,
    ) -> None:
        """Put rewrapped data keys in place: (kek, nonce, wrapped key, primary key, wrapped key replaced).

        One transaction a batch: a crash leaves the earlier batches done and the rest to be found again by its
        version. A row that was erased meanwhile stays erased.
        """
        with self._transaction() as db:
            db.executemany(
                f"UPDATE {self.T}keys SET kek = ?, wrap_nonce = ?, wrapped_key = ?"
                " WHERE purpose = ? AND owner = ? AND version = ? AND wrapped_key = ?",
                keys,
            )
            db.executemany(
                f"UPDATE {self.T}subjects SET kek = ?, wrap_nonce = ?, wrapped_key = ?"
                " WHERE pseudonym = ? AND wrapped_key = ?",
                subjects,
            )
            db.execute(self._audit(), audit)

    def count_by_master_key(self) -> dict[int, int]:
        """How many sealed rows each master key version wraps."""
        both = f"SELECT kek FROM {self.T}keys UNION ALL SELECT kek FROM {self.T}subjects"
        return dict(self._rows(f"SELECT kek, count(*) FROM ({both}) AS sealed WHERE kek > 0 GROUP BY kek ORDER BY kek"))

    def sample(self, limit: int) -> tuple[list[KeyRow], list[SubjectRow]]:
        """Up to `limit` keys and `limit` subjects, picked at random."""
        some = "WHERE kek > 0 ORDER BY random() LIMIT ?"
        keys = self._rows(f"SELECT {_KEY} FROM {self.T}keys {some}", limit)
        return keys, self._rows(f"SELECT {_SUBJECT} FROM {self.T}subjects {some}", limit)

    def erase_keys(self, purpose: str, owner: str, audit: AuditRow) -> int:
        """Destroy every version of a key; how many there were. Idempotent."""
        return self._erase("keys", "purpose = ? AND owner = ?", (purpose, owner), audit)

    def subject_by_lookup(self, lookup: bytes) -> str | None:
        """The pseudonym under a look-up key of 32 bytes."""
        rows = self._rows(f"SELECT pseudonym FROM {self.T}subjects WHERE lookup = ?", lookup)
        return rows[0][0] if rows else None

    def subject(self, pseudonym: str) -> SubjectRow | None:
        """One sealed subject, None when unknown or erased."""
        rows = self._rows(f"SELECT {_SUBJECT} FROM {self.T}subjects WHERE pseudonym = ? AND kek > 0", pseudonym)
        return rows[0] if rows else None

    def add_subject(self, lookup: bytes, row: SubjectRow) -> str:
        """Store a subject unless its look-up key exists; the pseudonym that stands there afterwards.

        On disk before it returns: a crash before leaves nothing, a crash after leaves a pseudonym that the
        next look-up finds.
        """
        with self._transaction() as db:
            db.execute(
                f"INSERT INTO {self.T}subjects(lookup, {_SUBJECT}) VALUES(?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT(lookup) DO NOTHING",
                (lookup, *row),
            )
            found = db.execute(f"SELECT pseudonym FROM {self.T}subjects WHERE lookup = ?", (lookup,)).fetchone()
        pseudonym: str = found[0]
        return pseudonym

    def erase_subject(self, pseudonym: str, audit: AuditRow) -> bool:
        """Destroy a subject's data key and look-up key; the pseudonym stays. False when there was none."""
        return self._erase("subjects", "pseudonym = ?", (pseudonym,), audit, ", lookup = NULL") > 0

    def audit_rows(self, after: int = 0, limit: int = 1_000) -> list[tuple[int, int, str, str, str, bytes]]:
        """Audit rows in order: number, unix milliseconds, who, purpose, owner, digest."""
        columns = "seq, at_ms, who, purpose, owner, digest"
        return self._rows(f"SELECT {columns} FROM {self.T}audit WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)


class SqliteVaultStore(VaultTables):
    """The vault's file. One connection, usable from any thread; several processes may have it open.

    Every method raises StorageUnavailable, with nothing written, when the disk is full or the file locked.
    """

    TAKEN: ClassVar[tuple[type[BaseException], ...]] = (sqlite3.IntegrityError,)

    def __init__(self, path: Path) -> None:
        """Open or create the file (mode 0600); OSError when it is no vault."""
        path.touch(mode=0o600, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise OSError(f"{path} cannot be used as a vault: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _erase(self, table: str, where: str, values: tuple[str, ...], audit: AuditRow, also: str = "") -> int:
        """Overwrite the sealed columns, then empty the write-ahead log, which still holds the old page.

        A crash between the two leaves the log to be emptied by the next erasure or the next orderly close.
        """
        with self._transaction() as db:
            erased = self._overwrite(db, table, where, values, also)
            if erased:
                db.execute(self._audit(), audit)
        with self._lock:
            (busy, _, _) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise TimeoutError("erased, but a reader keeps the write-ahead log: erase again to empty it")
        return erased

    def _rows(self, statement: str, *values: object) -> list[Any]:
        with self._lock, _unavailable():
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _unavailable():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StorageUnavailable("the key vault cannot be used for now", reason=str(error)) from error


def _require(as_expected: bool) -> None:
    if not as_expected:
        raise _OutrunError
