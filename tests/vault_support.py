"""A real vault in a temporary folder."""

from dataclasses import dataclass
from pathlib import Path

from chain.key_session import Session
from chain.master_key import FileKeyProvider, create_master_key_file
from chain.subjects import Subjects
from chain.vault import Vault
from chain.vault_care import VaultCare
from storage.vault_store import SqliteVaultStore

ORIGIN = "daicho.invalid/3f9c"
CHAIN = 20260
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


@dataclass
class Folder:
    """A vault's two files."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "vault.db"

    @property
    def key_file(self) -> Path:
        return self.path / "master.key"

    def open(self, scopes: tuple[str, ...] = ("signer", "service")) -> "Opened":
        if not self.key_file.exists():
            create_master_key_file(self.key_file)
        store = SqliteVaultStore(self.database)
        provider = FileKeyProvider(self.key_file, scopes)
        vault = Vault(store, provider)
        return Opened(store, provider, vault, VaultCare(vault, store), Subjects(vault, store))


@dataclass
class Opened:
    """A vault and all that stands on it."""

    store: SqliteVaultStore
    provider: FileKeyProvider
    vault: Vault
    care: VaultCare
    subjects: Subjects

    def wallet(self, wallet_id: str) -> str:
        """The address of a wallet's first key, made durable."""
        session = self.session()
        address = session.create_wallet_key(wallet_id)
        session.commit()
        return address

    def initialise(self) -> None:
        session = self.session()
        session.initialise(ORIGIN, CHAIN)
        session.pin_contract(CONTRACT)
        session.commit()

    def session(self) -> Session:
        return Session(self.vault, "test")
