"""Comparing the topic of the entries with the event store, from where an earlier run has come to."""

from collections.abc import Callable
from pathlib import Path

from cli.settings import Settings, SettingsError
from cli.wiring.postgres_stores import PostgresStores, service_database
from cli.wiring.workers.parts import origin_of
from streams.topic_partition import KafkaPartition
from streams.topic_record import EntryRecords
from streams.topic_verify import Reconciliation, Report
from streams.topics import topic_name


def verify_entries(settings: Settings, resume: Path | None, progressed: Callable[[int, int], None]) -> Report:
    """Compare every record; the outcome, which is also kept in the file `resume` after every batch.

    A crash leaves the file of the batch before: a later run compares that batch once more. Raises SettingsError for a
    file that is about another topic.
    """
    stores = PostgresStores(service_database(settings))
    entries = stores.entries()
    try:
        with KafkaPartition(settings.kafka_bootstrap, topic_name(settings.book, "entries")) as partition:
            before = Report.decode(resume.read_bytes()) if resume is not None and resume.exists() else None
            run = Reconciliation(partition, EntryRecords(origin_of(stores)), entries, before)

            def batch(done: int, total: int) -> None:
                if resume is not None:
                    keep(resume, run.report)
                progressed(done, total)

            found = run.run(batch)
            if resume is not None:
                keep(resume, found)
            return found
    except ValueError as error:
        raise SettingsError(f"{resume}: {error}") from None
    finally:
        entries.close()


def keep(file: Path, report: Report) -> None:
    """Put a run's state in place of the last one, whole or not at all."""
    partial = file.with_name(file.name + ".partial")
    partial.write_bytes(report.encode())
    partial.replace(file)
