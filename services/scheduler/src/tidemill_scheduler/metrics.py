"""What Prometheus sees of the scheduler. Labels are closed sets; no Service and no owner among them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server


class Metrics:
    """One registry of this scheduler's own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.planning = Histogram(
            "tidemill_scheduler_planning_seconds",
            "Time to plan one round",
            registry=registry,
            buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 2),
        )
        self.leads = Gauge("tidemill_scheduler_leads", "Whether this process acts", registry=registry)
        self.workers = Gauge("tidemill_scheduler_workers", "Workers that do not drain", registry=registry)
        self.starts = Counter("tidemill_scheduler_starts", "Workers started", ["reason"], registry=registry)
        self.stops = Counter("tidemill_scheduler_stops", "Workers asked to drain", ["reason"], registry=registry)
        self.ended = Counter("tidemill_scheduler_ended", "Workers that ended", ["how"], registry=registry)
        self.failed = Counter("tidemill_scheduler_failed", "Workers that failed", registry=registry)


@contextmanager
def metrics_server(metrics: Metrics, *, host: str, port: int | None) -> Iterator[None]:
    """Serve /metrics from a thread; port None: do not."""
    if port is None:
        yield
        return
    server, thread = start_http_server(port, addr=host, registry=metrics.registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
