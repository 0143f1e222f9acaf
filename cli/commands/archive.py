"""`daicho archive`: what stores have sent, for ever: compare it with inbox and log, verify it once more."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cyclopts import App

from cli.checking.archive import check_archive, reverify_archive
from cli.checking.findings import Report
from cli.checking.run import ledger_folder
from cli.checking.shown import checking_progress, show_counts, show_findings
from cli.screen import console, print_json
from cli.settings import Settings, load_settings
from storage.folder import DataFolder

app = App(name="archive", help="The archive of store notifications: verify, reverify.")


@app.command
def verify(*, data: Path | None = None, json: bool = False) -> int:
    """Compare archive, inbox and log, and name what is missing, doubled or changed. Beside a running service.

    Exit code 0: they agree. 1: something differs. 2: there is nothing to compare.

    Parameters
    ----------
    data
        The data folder.
    json
        Print one JSON object.
    """
    from cli.wiring.stores import open_stores

    settings = load_settings(data_dir=data)
    folder = ledger_folder(settings)
    stores = open_stores(settings, folder)
    entries, inbox = stores.entries(), stores.parcels()
    with checking_progress(shown=not json) as show, archive_of(settings, folder) as archive:
        report = check_archive(entries, inbox, archive, show)
    return _told(report, ("log", "inbox", "archive", "still to be archived"), json=json)


@app.command
def reverify(*, data: Path | None = None, json: bool = False) -> int:
    """Verify every archived message once more, offline: by the certificates and keys that were stored with it.

    Exit code 0: all hold. 1: some do not. 2: there is nothing to verify.

    Parameters
    ----------
    data
        The data folder.
    json
        Print one JSON object.
    """
    from chain.payload_keys import PayloadKeys
    from cli.wiring.master_key import service_vault
    from cli.wiring.store_intake import Payloads, apple_verifier, google_app
    from cli.wiring.stores import open_stores
    from stores.reverify import Reverifier

    settings = load_settings(data_dir=data)
    folder = ledger_folder(settings)
    store = open_stores(settings, folder).vault()
    keys = PayloadKeys(service_vault(settings, folder, store), store)
    reverifier = Reverifier(apple_verifier(settings, online=False, max_age_seconds=None), google_app(settings))
    with checking_progress(shown=not json) as show, archive_of(settings, folder) as archive:
        report = reverify_archive(archive, Payloads(keys).open, reverifier, show)
    return _told(report, ("signatures", "without a signature", "erased"), json=json)


@contextmanager
def archive_of(settings: Settings, folder: DataFolder) -> Iterator[Any]:
    """The archive, to read: segments in the data folder, or the topic."""
    if not settings.clustered:
        from storage.archive import SegmentArchive

        yield SegmentArchive(folder.archive, writable=False)
        return
    from streams.archive_topic import ParcelRecords, TopicArchive
    from streams.topic_reader import TopicLog, open_topic
    from streams.topics import topic_name

    with open_topic(settings.kafka_bootstrap, topic_name(settings.book, "notifications"), ParcelRecords()) as reader:
        yield TopicArchive(TopicLog(reader))


def _told(report: Report, parts: tuple[str, ...], *, json: bool) -> int:
    if json:
        print_json(
            {
                "agrees": not report.findings,
                "looked_at": report.looked_at,
                "differences": report.differences,
            }
        )
        return 1 if report.findings else 0
    show_counts(report, parts)
    show_findings(report)
    if report.findings:
        console.print(f"[bold red]{len(report.findings):,} differences.[/]")
    else:
        console.print("[bold green]Nothing is missing, doubled or changed.[/]")
    return 1 if report.findings else 0
