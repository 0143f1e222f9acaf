"""`daicho tieout`: how each subscription stands at its store, in the ledger and at the billing system, side by side."""

from pathlib import Path
from typing import Any, cast

from cli.checking.findings import Report
from cli.checking.run import NothingToCheck, ledger_folder
from cli.checking.shown import checking_progress, show_counts, show_findings
from cli.checking.tieout import SETTLING_SECONDS, Sides, TieOut
from cli.screen import console, escaped, print_json
from cli.settings import Settings, load_settings
from storage.folder import DataFolder
from stores.errors import BillingError

NOTHING_COMPARED = (
    "nothing could be compared: no billing system is set up here (DAICHO_BILLING_URL), and no store could be asked "
    "(a key for its API); run it with the service's settings"
)
LOOKED_AT = ("purchases", "contracts", "contracts of others", "lines", "asked")


def tieout(*, data: Path | None = None, settling: float = SETTLING_SECONDS, json: bool = False) -> int:
    """Compare stores, ledger and billing system. Beside a running service, with its settings; changes nothing.

    Exit code 0: no difference, or all are explained. 1: some are not. 2: there is nothing to compare.

    Parameters
    ----------
    data
        The data folder.
    settling
        For so many seconds after the last entry about it, something may be on its way.
    json
        Print one JSON object.
    """
    settings = load_settings(data_dir=data)
    folder = ledger_folder(settings)
    sides = _sides(settings, folder)
    try:
        with checking_progress(shown=not json) as show:
            report = TieOut(sides, settling_seconds=settling).run(show)
    except BillingError as error:  # half of a comparison would call contracts missing that it has not read
        raise NothingToCheck(f"the billing system cannot be read: {error}") from None
    if report.not_checked and not report.looked_at.get("asked") and not report.findings:
        raise NothingToCheck(NOTHING_COMPARED)
    return _told(report, json=json)


def _sides(settings: Settings, folder: DataFolder) -> Sides:
    from chain.payload_keys import PayloadKeys
    from chain.subjects import Subjects
    from cli.wiring.master_key import service_vault
    from cli.wiring.store_answers import StoreAnswers
    from cli.wiring.store_intake import Payloads, google_app
    from cli.wiring.store_side import apple_client, billing_client, play_client
    from cli.wiring.stores import open_stores
    from domain.ledger import Ledger
    from domain.store_notification import StoreEnvironment
    from stores.reading import Reader
    from streams.store_work import Messages

    stores = open_stores(settings, folder)
    vault_store = stores.vault()
    vault = service_vault(settings, folder, vault_store)
    entries = stores.entries()
    messages = Messages(stores.parcels(), Payloads(PayloadKeys(vault, vault_store)), Reader(google_app(settings)))
    environment = StoreEnvironment(settings.apple_environments[0])
    ask = StoreAnswers(entries, messages, apple_client(settings), play_client(settings), environment)
    ledger = cast("Any", Ledger(stores.ledger_environment()))
    reveal = Subjects(vault, vault_store).reveal
    return Sides(entries, ledger.load_at, reveal, ask, billing_client(settings), settings.billing_plans)


def _told(report: Report, *, json: bool) -> int:
    if json:
        print_json(
            {
                "agrees": not report.findings,
                "looked_at": report.looked_at,
                "not_checked": report.not_checked,
                "differences": report.differences,
            }
        )
        return 1 if report.findings else 0
    reasons = tuple(name for name in report.looked_at if name.startswith(("explained", "not asked")))
    show_counts(report, (*LOOKED_AT, *reasons))
    for part, why in report.not_checked.items():
        console.print(escaped(f"  {part}: not compared, {why}"), markup=False)
    show_findings(report)
    if report.findings:
        console.print(f"[bold red]{len(report.findings):,} unexplained differences.[/]")
    else:
        console.print("[bold green]0 unexplained differences.[/]")
    return 1 if report.findings else 0
