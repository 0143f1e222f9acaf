"""`daicho rebuild`: make a book again from its topics."""

from pathlib import Path

from rich.progress import TaskID

from cli.screen import console, print_json, progress_bar
from cli.settings import SettingsError, load_settings
from storage.folder import DataFolder


def rebuild(*, from_kafka: bool = False, data: Path | None = None, json: bool = False) -> int:
    """Make again from Kafka alone what the book's stores lack: events, log, checkpoints, anchors, read models.

    For an empty installation, and for a database that came back from a backup: what is there is compared, entry by
    entry, what is missing is added, byte for byte. May be interrupted and run again. Keys are in no topic: the vault
    has backups of its own. Exit code 2, with nothing changed, when topic and store disagree.

    Parameters
    ----------
    from_kafka
        Required: says where from.
    data
        Build into this data folder (SQLite files) instead of the book's database, for a look of one's own.
    json
        Print one JSON object.
    """
    settings = load_settings(data_dir=data)
    if not from_kafka:
        raise SettingsError("say where from: daicho rebuild --from-kafka")
    if not settings.kafka_bootstrap:
        raise SettingsError("there is no Kafka: set DAICHO_KAFKA_BOOTSTRAP")
    from cli.wiring.restoring import rebuild_from_kafka
    from cli.wiring.stores import SqliteStores, open_stores

    folder = DataFolder(settings.data_dir)
    if data is not None:
        folder.lock()
    stores = SqliteStores(folder) if data is not None else open_stores(settings, folder)
    with progress_bar(shown=not json) as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        found = rebuild_from_kafka(settings, stores, show)
    folder.release()
    if json:
        print_json(found)
    else:
        for name, value in found.items():
            console.print(f"{name.replace('_', ' '):20} {value}", markup=False)
    return 0
