"""Which file holds the vault's master key."""

from pathlib import Path

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
