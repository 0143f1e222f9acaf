"""What a worker shows to Prometheus: for each of its processors position, lag and whether it works."""

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from streams.local import RUNNING, ProcessorStatus


class WorkerMetrics:
    """A registry of its own, and a small server for it (any path answers, so /healthz does, too)."""

    def __init__(self, book: str, worker: str) -> None:
        self.registry = CollectorRegistry()
        self._labels = {"book": book, "worker": worker}
        names = [*self._labels, "processor"]
        self._position = Gauge("daicho_processor_position", "Last position processed", names, registry=self.registry)
        self._lag = Gauge("daicho_processor_lag", "Entries or records not processed yet", names, registry=self.registry)
        self._up = Gauge(
            "daicho_processor_running", "1 while it works, 0 while it fails or stopped", names, registry=self.registry
        )
        self._leading = Gauge(
            "daicho_worker_leading", "1 while this process leads, 0 while it stands by", list(self._labels),
            registry=self.registry,
        )  # fmt: skip
        self._leading.labels(**self._labels).set(0)
        self._server: Any = None

    def serve(self, host: str, port: int) -> None:
        """Answer on that address from now on; OSError when it is taken."""
        self._server, _ = start_http_server(port, host, registry=self.registry)

    def lead(self) -> None:
        """This process leads now."""
        self._leading.labels(**self._labels).set(1)

    def show(self, rows: Sequence[ProcessorStatus]) -> None:
        """How the processors are now."""
        for row in rows:
            labels = {**self._labels, "processor": row.name}
            self._position.labels(**labels).set(row.position)
            self._lag.labels(**labels).set(row.lag)
            self._up.labels(**labels).set(row.state == RUNNING)

    def close(self) -> None:
        """Stop answering."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None
