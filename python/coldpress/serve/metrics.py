"""What the server counts, in the words of Prometheus; each server has a registry of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from coldpress._version import __version__
from coldpress.serve.batching import Batch

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class DriftMetrics:
    """What the watch over the queries of one modality tells."""

    statistic: Gauge
    threshold: Gauge
    p_value: Gauge
    alarm: Gauge
    window_items: Gauge
    windows: Counter
    alarms: Counter
    dropped: Counter


class Metrics:
    """Counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        kind = ["modality"]
        self.requests = Counter("coldpress_requests", "Requests answered.", ["route", "status"], registry=r)
        self.seconds = Histogram(
            "coldpress_request_seconds",
            "From the head of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=r,
        )
        self.active = Gauge("coldpress_requests_active", "Requests under way.", registry=r)
        self.rejected = Counter("coldpress_rejected", "Requests refused, by why.", ["reason"], registry=r)
        self.tokens = Counter("coldpress_tokens", "Tokens of text computed.", registry=r)
        self.items = Counter("coldpress_items", "Texts and images computed.", kind, registry=r)
        self.queue = Gauge("coldpress_queue_cost", "Tokens or images that wait to be computed.", kind, registry=r)
        self.wait = Histogram(
            "coldpress_queue_seconds", "From arrival to the batch.", kind, buckets=_SECONDS, registry=r
        )
        self.batch_items = Histogram("coldpress_batch_items", "Items of a batch.", kind, buckets=_SIZES, registry=r)
        self.batch_cost = Histogram(
            "coldpress_batch_cost", "Tokens or images of a batch.", kind, buckets=_SIZES, registry=r
        )
        self.compute = Histogram("coldpress_batch_seconds", "Seconds of a batch.", kind, buckets=_SECONDS, registry=r)
        self.search = Histogram("coldpress_search_seconds", "Seconds in the index.", buckets=_SECONDS, registry=r)
        self.rows = Gauge("coldpress_index_rows", "Vectors in the index.", registry=r)
        self.reloads = Counter(
            "coldpress_reloads", "Times that index and head were opened anew.", ["result"], registry=r
        )
        self._drift = self._of_drift()
        self.alive = Gauge("coldpress_engine_alive", "1 while the engine computes.", registry=r)
        about = Gauge("coldpress_build", "Always 1.", ["version"], registry=r)
        about.labels(__version__).set(1)

    def drift(self, modality: str) -> DriftMetrics:
        """Those of one modality."""
        return DriftMetrics(**{name: metric.labels(modality) for name, metric in self._drift.items()})

    def saw_batch(self, modality: str, batch: Batch) -> None:
        """Count a batch."""
        self.items.labels(modality).inc(batch.items)
        if modality == "text":
            self.tokens.inc(batch.cost)
        self.batch_items.labels(modality).observe(batch.items)
        self.batch_cost.labels(modality).observe(batch.cost)
        self.compute.labels(modality).observe(batch.seconds)
        waited = self.wait.labels(modality)
        for seconds in batch.waits_s:
            waited.observe(seconds)

    def saw_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        if status in _REASONS:
            self.rejected.labels(_REASONS[status]).inc()

    def _of_drift(self) -> dict[str, Any]:
        gauges = {
            "statistic": "Discrepancy of the last window of queries from the reference.",
            "threshold": "What that exceeds by chance at the rate of false alarms.",
            "p_value": "Share of random divisions at least as different.",
            "alarm": "1 while the last window exceeds its threshold.",
            "window_items": "Queries of a window.",
        }
        counters = {
            "windows": "Windows of queries that were tested.",
            "alarms": "Windows that exceeded their threshold.",
            "dropped": "Requests that the watch had no time for.",
        }
        made: dict[str, Any] = {
            name: Gauge(f"coldpress_drift_{name}", what, ["modality"], registry=self.registry)
            for name, what in gauges.items()
        }
        return made | {
            name: Counter(f"coldpress_drift_{name}", what, ["modality"], registry=self.registry)
            for name, what in counters.items()
        }

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)


_REASONS = {401: "key", 403: "origin", 408: "slow", 413: "too large", 429: "busy", 503: "engine", 504: "deadline"}
