"""`daicho keys`: the vault's master key: make one, add a version, wrap everything anew. For a stopped service."""

import contextlib
from pathlib import Path

from cyclopts import App

from chain.master_key import FileKeyProvider, add_master_key, create_master_key_file
from chain.vault import Vault
from chain.vault_care import VaultCare
from cli.screen import console, print_json, progress_bar
from cli.settings import load_settings
from cli.wiring.master_key import master_key_of
from cli.wiring.stores import open_stores
from storage.folder import DataFolder

app = App(name="keys", help="The vault's master key: init, rotate, show.")


@app.command(name="init")
def create(file: Path) -> int:
    """Write a new master key file (mode 0600). Keep it outside the data folder and its backups.

    Parameters
    ----------
    file
        Where to write it; an existing file is never replaced.
    """
    create_master_key_file(file)
    console.print(f"Wrote {file}. Set DAICHO_MASTER_KEY_FILE to it.", markup=False)
    return 0


@app.command
def rotate(*, data: Path | None = None) -> int:
    """Add a master key version and wrap every key of the vault with it. Resumable: run it again after a crash.

    Keep the old version as long as backups need it. A master key that leaked is not healed by this: rotate the
    wallets' keys, too.

    Parameters
    ----------
    data
        The data folder.
    """
    settings = load_settings(data_dir=data)
    folder = DataFolder(settings.data_dir)
    with contextlib.nullcontext() if settings.clustered else folder.lock():
        key_file = master_key_of(settings, folder)
        store = open_stores(settings, folder).vault()
        care = VaultCare(Vault(store, FileKeyProvider(key_file)), store)
        if not care.remaining():  # an unfinished rotation goes on with the version that it began
            add_master_key(key_file)
            care = VaultCare(Vault(store, FileKeyProvider(key_file)), store)
        total = care.remaining()
        with progress_bar() as bar:
            task = bar.add_task("wrapping keys", total=total)
            care.rewrap(lambda left: bar.update(task, completed=total - left))
        opened = care.trial_open()
        store.close()
    console.print(f"{total} keys are wrapped with the new master key; {opened} were opened to try it.")
    return 0


@app.command
def show(*, data: Path | None = None) -> int:
    """Print what the vault is pinned to and its public keys, as JSON. No secret is shown.

    Parameters
    ----------
    data
        The data folder.
    """
    settings = load_settings(data_dir=data)
    folder = DataFolder(settings.data_dir)
    store = open_stores(settings, folder).vault()
    vault = Vault(store, FileKeyProvider(master_key_of(settings, folder)))
    origin, chain_id, contract = vault.identity()
    print_json(
        {
            "origin": origin,
            "chain_id": chain_id,
            "contract": contract,
            "log_key": str(vault.verifier_key("log")),
            "promise_key": str(vault.verifier_key("promise")),
        }
    )
    store.close()
    return 0
