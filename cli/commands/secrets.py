"""`daicho secrets`: made-up secrets for several processes on one development machine, each in a file of its own."""

import secrets as random
from pathlib import Path
from typing import Final

from cli.development import prepare_secrets, write_private
from cli.screen import console
from cli.settings import SettingsError, load_settings
from storage.folder import DataFolder

LOGINS: Final = ("owner", "service", "analyst")


def secrets(folder: Path, *, database_host: str = "postgres", database_port: int = 5432) -> int:
    """Make what is missing in a folder: token issuer, master key, cursor secret, database passwords and URLs.

    What is there stays as it is. Every file has mode 0600. For development: production brings its own.

    Parameters
    ----------
    folder
        Where the files go.
    database_host
        Host of PostgreSQL in the URLs (in docker-compose.yml, the service's name).
    database_port
        Its port.
    """
    if not load_settings().development:
        raise SettingsError("production does not make up secrets: unset DAICHO_ENVIRONMENT")
    prepare_secrets(DataFolder(folder, folder))
    for login in LOGINS:
        _make_login(folder, login, database_host, database_port)
    console.print(f"{folder} holds the secrets of a development cluster.", markup=False)
    return 0


def _make_login(folder: Path, login: str, host: str, port: int) -> None:
    """Password and URL of a login to the database. A crash in between is repaired by the next call."""
    password = folder / f"{login}.password"
    if not password.exists():
        write_private(password, random.token_hex(24).encode())
    url = f"postgresql://daicho_{login}:{password.read_text('ascii')}@{host}:{port}/daicho"
    write_private(folder / f"{login}.url", url.encode())
