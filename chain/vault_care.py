"""The operator's care of the vault: rewrap under a new master key, open on trial, destroy a wallet's key.

Rotation: `add_master_key(file)`, then `rewrap` until `remaining` is empty, then a trial opening; keep the old
version as long as backups need it. A rewrap does not heal a leaked master key (old ciphertext plus old key
still open): then the wallets' keys must be rotated too.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chain.curve import address_of_secret
from chain.envelope import Context, SealBrokenError, Sealed, rewrap, unseal
from chain.subjects import SUBJECT, SubjectRow
from chain.vault import LOG, PROMISE, PUBLISHER, WALLET, AuditRow, KeyRow, SealedKey, Vault

BATCH_ROWS: Final = 500


class CareStore(Protocol):
    """What care asks of the vault's store; each write is one transaction."""

    def stale_keys(self, kek: int, limit: int) -> Sequence[KeyRow]:
        """Keys not wrapped by master key `kek` (erased ones excepted)."""
        ...

    def stale_subjects(self, kek: int, limit: int) -> Sequence[SubjectRow]:
        """Subjects not wrapped by master key `kek` (erased ones excepted)."""
        ...

    def replace_wrapping(
        self,
        keys: Sequence[tuple[int, bytes, bytes, str, str, int, bytes]],
        subjects: Sequence[tuple[int, bytes, bytes, str, bytes]],
        audit: AuditRow,
    ) -> None:
        """Put rewrapped data keys in place of those named last in each row, and of no others."""
        ...

    def count_by_master_key(self) -> dict[int, int]:
        """Sealed rows per master key version."""
        ...

    def sample(self, limit: int) -> tuple[Sequence[KeyRow], Sequence[SubjectRow]]:
        """Random keys and subjects."""
        ...

    def erase_keys(self, purpose: str, owner: str, audit: AuditRow) -> int:
        """Destroy every version of a key."""
        ...


class VaultCare:
    """The operator's tasks on one vault. Needs every part of the master key."""

    def __init__(self, vault: Vault, store: CareStore) -> None:
        self._vault = vault
        self._store = store

    def remaining(self) -> int:
        """How many rows are still wrapped by an older master key than the current one."""
        current = self._vault.provider.current()
        return sum(count for kek, count in self._store.count_by_master_key().items() if kek != current)

    def rewrap_batch(self, who: str = "operator") -> int:
        """Rewrap up to 500 keys and 500 subjects under the current master key; how many were left to do.

        Resumable at any moment: what is done is told by the version in its row.
        """
        provider = self._vault.provider
        kek = provider.current()
        keys = [SealedKey(*row) for row in self._store.stale_keys(kek, BATCH_ROWS)]
        subjects = self._store.stale_subjects(kek, BATCH_ROWS)
        if not keys and not subjects:
            return 0
        fresh_keys = []
        for key in keys:
            new = rewrap(key.sealed, key.context, provider)
            place = (key.purpose, key.owner, key.version, key.wrapped_key)
            fresh_keys.append((new.kek, new.wrap_nonce, new.wrapped_key, *place))
        fresh_subjects = []
        for row in subjects:
            sealed = Sealed(*row[1:])
            new = rewrap(sealed, Context(SUBJECT, row[0], ""), provider)
            fresh_subjects.append((new.kek, new.wrap_nonce, new.wrapped_key, row[0], sealed.wrapped_key))
        audit = self._vault.audit_row(who, "rewrap", f"master key {kek}, {len(keys) + len(subjects)} rows", b"")
        self._store.replace_wrapping(fresh_keys, fresh_subjects, audit)
        return len(keys) + len(subjects)

    def rewrap(self, progress: Callable[[int], None] = lambda _: None) -> int:
        """Rewrap all that is left, telling `progress` the number done after each batch; the number done."""
        done = 0
        while batch := self.rewrap_batch():
            done += batch
            progress(done)
        return done

    def trial_open(self, limit: int = 32) -> int:
        """Open up to `limit` random keys and subjects, hold each key against its address; how many opened.

        Raises SealBrokenError or MasterKeyError on the first that does not open, or opens to another key: run
        it at start (a foreign key file shows at once) and after each rewrap.
        """
        keys, subjects = self._store.sample(limit)
        for row in keys:
            key = SealedKey(*row)
            secret = self._vault.unseal(key)
            if _public(key.purpose, secret, key.address) != key.address:
                raise SealBrokenError(f"{key.context}: opens to another key")
        for subject in subjects:
            unseal(Sealed(*subject[1:]), Context(SUBJECT, subject[0], ""), self._vault.provider)
        return len(keys) + len(subjects)

    def erase_wallet_key(self, wallet_id: str, who: str = "operator") -> int:
        """Destroy every key of a wallet for good (crypto-shredding); how many there were.

        Old signatures still verify. The wallet can sign nothing afterwards and gets no new key under this id.
        """
        audit = self._vault.audit_row(who, "erase wallet key", wallet_id, b"")
        return self._store.erase_keys(WALLET, wallet_id, audit)


def _public(purpose: str, secret: bytes, otherwise: str) -> str:
    if purpose in {WALLET, PUBLISHER}:
        return address_of_secret(secret)
    if purpose in {LOG, PROMISE}:
        return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex()
    return otherwise
