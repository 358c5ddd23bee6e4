"""What Prometheus may ask: requests, latencies, the queue, and what was refused."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from .bodies import Bodies
from .workers import Workers

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self, workers: Workers, bodies: Bodies, *, model: str, version: str) -> None:
        registry = CollectorRegistry(auto_describe=True)
        self._registry = registry
        ProcessCollector(registry=registry)
        info = Gauge(
            "fic_info", "What is served, and by what.", ["model", "version"], registry=registry
        )
        info.labels(model, version).set(1)
        self.requests: Counter = Counter(
            "fic_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.seconds: Histogram = Histogram(
            "fic_request_seconds",
            "Time from a request's header to the end of its answer.",
            ["route"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._series: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self.pictures: Counter = Counter("fic_pictures", "Pictures classified.", registry=registry)
        self.rejected: Counter = Counter(
            "fic_rejected", "Requests refused.", ["reason"], registry=registry
        )
        self.ready: Gauge = Gauge(
            "fic_ready", "Whether the self-test has passed: 1 or 0.", registry=registry
        )
        for name, what, value in (
            ("fic_queue_pictures", "Pictures that wait.", lambda: workers.waiting),
            ("fic_queue_limit", "Pictures that may wait.", lambda: workers.max_queue),
            ("fic_working_pictures", "Pictures being worked on.", lambda: workers.working),
            ("fic_held_bytes", "Bodies in memory.", lambda: bodies.held),
        ):
            Gauge(name, what, registry=registry).set_function(value)

    def count_request(self, route: str, method: str, status: str, seconds: float) -> None:
        """Count a request that is answered, and the time that it took."""
        key = (route, method, status)
        if key not in self._series:  # a lookup of the library takes ten times as long
            self._series[key] = (self.requests.labels(*key), self.seconds.labels(route))
        requests, times = self._series[key]
        requests.inc()
        times.observe(seconds)

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self._registry)
