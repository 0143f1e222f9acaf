"""Which file holds the vault's master key, and the vault as the service opens it."""

from pathlib import Path
from typing import Any

from chain.master_key import SERVICE, FileKeyProvider
from chain.vault import Vault
from cli.development import master_key_file
from cli.settings import Settings, SettingsError
from storage.folder import DataFolder


def master_key_of(settings: Settings, folder: DataFolder) -> Path:
    """The file that the settings name, or the data folder's. Raises SettingsError where processes must share one."""
    if settings.master_key_file is not None:
        return settings.master_key_file
    if settings.clustered:
        raise SettingsError("processes that share a book share its master key: set DAICHO_MASTER_KEY_FILE")
    return master_key_file(folder)


def service_vault(settings: Settings, folder: DataFolder, store: Any) -> Vault:
    """The vault, with the service's part of the master key: what it has sealed of users and payloads can be opened."""
    return Vault(store, FileKeyProvider(master_key_of(settings, folder), (SERVICE,)))
