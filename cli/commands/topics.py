"""`daicho topics`: the book's topics in Kafka: make them, check what they are, compare what they hold."""

import contextlib
from pathlib import Path
from typing import Any

from cyclopts import App

from cli.screen import console, escaped, print_json, progress_bar
from cli.settings import Settings, SettingsError, load_settings

app = App(name="topics", help="The book's topics in Kafka: apply, check, verify.")


@app.command
def apply() -> int:
    """Create the topics that are missing. What exists is never changed; exit code 1 when it is not what it must be.

    Refused while a relay of the book is at work.
    """
    settings = _settings()
    for line in _made(settings):
        console.print(line, markup=False)
    return check()


@app.command
def check() -> int:
    """Name everything in which a topic is not what it must be. Exit code 1 when there is anything."""
    settings = _settings()
    from streams import topics

    deviations = topics.check(settings.kafka_bootstrap, settings.book)
    for line in deviations:
        console.print(line, style="bold red", markup=False)
    if not deviations:
        console.print("The topics are what they must be.")
    return 1 if deviations else 0


@app.command
def verify(*, resume: Path | None = None, json: bool = False) -> int:
    """Compare every record of the entries' topic with the event store, by position and hash.

    Exit code 1 when anything is missing, changed, foreign or out of order.

    Parameters
    ----------
    resume
        File that remembers how far an interrupted run has come.
    json
        Print one JSON object.
    """
    from cli.wiring.reconciling import verify_entries

    settings = _settings()
    with progress_bar(shown=not json) as bar:
        task = bar.add_task("records", total=None)
        report = verify_entries(settings, resume, lambda done, total: bar.update(task, completed=done, total=total))
    if json:
        print_json(_as_json(report))
    else:
        for line in report.findings:
            console.print(escaped(line), style="bold red", markup=False)
        told = f"{report.records:,} records, {report.repeated:,} of them repeats, up to position {report.due - 1:,}"
        console.print(f"{told}; {report.to_come:,} entries are still to come.", markup=False)
        console.print("Topic and store agree." if report.agrees else "Topic and store differ.")
    return 0 if report.agrees else 1


def _as_json(report: Any) -> dict[str, Any]:
    counted = ("topic", "records", "repeated", "missing", "changed", "foreign", "ahead", "order", "to_come", "agrees")
    return {name: getattr(report, name) for name in counted} | {"findings": report.findings}


def _made(settings: Settings) -> list[str]:
    """What was created. Where the book has no schema yet, no relay can be at work."""
    from cli.wiring.beginning import make_topics
    from cli.wiring.postgres_stores import service_database
    from storage.postgres.migrate import SchemaError, check_schema
    from streams import topics

    if settings.clustered:
        with contextlib.suppress(SchemaError):
            check_schema(service_database(settings))
            return make_topics(settings, service_database(settings))
    return topics.apply(settings.kafka_bootstrap, settings.book)


def _settings() -> Settings:
    settings = load_settings()
    if not settings.kafka_bootstrap:
        raise SettingsError("there is no Kafka: set DAICHO_KAFKA_BOOTSTRAP")
    return settings
