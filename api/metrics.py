"""What Prometheus sees: a registry of our own, filled where things happen and, for states, when it is asked."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, cast

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.errors import problem_name
from api.services import Services
from domain.errors import DaichoError
from projections import anchors
from projections.views import AnchorView

MEDIA: Final = CONTENT_TYPE_LATEST.encode()
_GROUP_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """The counters. Collecting asks log, read models and hosts for their state; call `text` from a reading thread."""

    def __init__(self, services: Services) -> None:
        self.registry = CollectorRegistry()
        self._commands = Counter(
            "daicho_commands", "Commands by type and outcome (done, repeated, or the problem)", ["type", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._responses = Counter(
            "daicho_http_responses", "HTTP responses by status", ["status"], registry=self.registry
        )
        self._group_size = Histogram(
            "daicho_group_commands", "Commands in one commit", buckets=_GROUP_BUCKETS, registry=self.registry
        )
        self._commit_seconds = Histogram(
            "daicho_commit_seconds", "Seconds from deciding a group to its commit", buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self._notifications = Counter(
            "daicho_store_notifications", "Notifications by store and what became of them", ["store", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._known: dict[tuple[str, str], Counter] = {}
        self._known_status: dict[int, Counter] = {}
        self.registry.register(cast("Collector", _States(services)))

    def command(self, kind: str, outcome: DaichoError | None, *, repeated: bool = False, count: int = 1) -> None:
        """Count commands: done, repeated, or refused with a problem."""
        name = problem_name(type(outcome)) if outcome is not None else "repeated" if repeated else "done"
        counter = self._known.get((kind, name))
        if counter is None:
            counter = self._known[kind, name] = self._commands.labels(kind, name)
        counter.inc(count)

    def notification(self, store: str, outcome: str) -> None:
        """Count a store's notification (`store_intake.NotificationIntake.count`)."""
        self._notifications.labels(store, outcome).inc()

    def response(self, status: int) -> None:
        """Count a response; 0 stands for a client that went away."""
        counter = self._known_status.get(status)
        if counter is None:
            counter = self._known_status[status] = self._responses.labels(str(status))
        counter.inc()

    def group(self, commands: int, seconds: float) -> None:
        """Count a committed group (the writer's `on_group`)."""
        self._group_size.observe(commands)
        self._commit_seconds.observe(seconds)

    def text(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)


class _States(Collector):
    """What is asked at each scrape."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """What can be told: while the database is away, all that does not lie there."""
        yield _gauge("daicho_ready", "1 when traffic is welcome, 0 when /readyz says why not", self._ready())
        away: tuple[type[BaseException], ...] = (DaichoError, *self._services.read_store.DATABASE_ERRORS)
        for part in (self._published, self._written, self._processors, self._anchors):
            with suppress(*away):
                yield from list(part())

    def _published(self) -> Iterator[Metric]:
        yield _gauge("daicho_tree_size", "Leaves in the published log", self._services.log_view.size)
        yield _gauge(
            "daicho_visible_position", "Last position that the read models show", self._services.board.position
        )

    def _written(self) -> Iterator[Metric]:
        yield _gauge("daicho_head_position", "Last position of the event store", self._services.entries.head())

    def _anchors(self) -> Iterator[Metric]:
        with self._services.read_store.snapshot() as connection:
            latest = anchors.latest_anchor(connection, "mined", "final")
            pending = anchors.latest_anchor(connection, "pending")
        yield from _anchored(latest, pending)

    def _ready(self) -> float:
        return 0.0 if self._services.health.readiness() else 1.0

    def _processors(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily("daicho_processor_lag_entries", "Entries still to be processed", labels=["processor"])
        position = GaugeMetricFamily("daicho_processor_position", "Last position processed", labels=["processor"])
        failed = GaugeMetricFamily("daicho_processor_failed", "1 while a processor cannot go on", labels=["processor"])
        for processor in self._services.health.processors():
            name = [str(processor["name"])]
            lag.add_metric(name, float(processor["lag"]))
            position.add_metric(name, float(processor["position"]))
            failed.add_metric(name, 1.0 if processor.get("error") else 0.0)
        yield from (lag, position, failed)


def _anchored(latest: AnchorView | None, pending: AnchorView | None) -> Iterator[Metric]:
    yield _gauge("daicho_anchored_size", "Leaves under the newest mined anchor", latest.size if latest else 0)
    yield _gauge(
        "daicho_anchor_pending_size", "Leaves under the newest anchor that waits", pending.size if pending else 0
    )
    if latest is not None and latest.block_time is not None:
        yield _gauge(
            "daicho_anchor_age_seconds", "Age of the newest mined anchor", max(0.0, time.time() - latest.block_time)
        )
    if latest is not None and latest.gas_used is not None:
        yield _gauge("daicho_anchor_gas", "Gas that the newest mined anchor used", latest.gas_used)


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family
