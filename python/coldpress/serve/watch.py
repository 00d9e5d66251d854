"""`DriftWatch`: whether what the server is asked is still like what it was asked, found out beside the requests.

Queries are compared with queries: a question differs from the passage that answers it by nature, so the vectors of an
index are no reference. Unless the operator names a store of queries, the first ones are it.

A request hands over some of its vectors and goes on; what the watch has no time for is dropped. A window is a random
sample of the queries since the last one, and stays open until the watch has had its rest: however much is asked, it
takes a fiftieth of a core.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress._urls import is_url
from coldpress.drift import DriftMonitor, Reference
from coldpress.drift.saving import is_monitor
from coldpress.errors import ColdpressError, StoreError
from coldpress.serve.metrics import DriftMetrics, Metrics
from coldpress.serve.opening import Opened, Places
from coldpress.store import EmbeddingStore, is_store
from coldpress.types import Fingerprint, Modality

logger = logging.getLogger(__name__)

Rows = npt.NDArray[np.float32]

BASELINE_WINDOWS = 4
"""As many queries as so many windows are the reference, where there is no other."""
PER_REQUEST = 8
"""Vectors of one request that count: a client that embeds a whole book in one would be a window of its own."""
WAITING = 256
"""Requests that may wait for the watch, of 12 kB each at 384 dimensions; more are dropped."""
REST = 50.0
"""The watch rests so many times as long as a test has taken."""
SHOWN = 100
"""Windows of the past that are told."""


class Sample:
    """`size` of the rows that were added, each with the same chance."""

    def __init__(self, size: int, dim: int, rng: np.random.Generator) -> None:
        self.rows: Rows = np.empty((size, dim), np.float32)
        self.seen, self._rng = 0, rng

    @property
    def full(self) -> bool:
        """Whether there are enough."""
        return self.seen >= len(self.rows)

    def add(self, rows: Rows) -> None:
        """Take some in (algorithm R)."""
        for row in rows:
            place = self.seen if not self.full else int(self._rng.integers(self.seen + 1))
            self.seen += 1
            if place < len(self.rows):
                self.rows[place] = row


class DriftWatch:
    """Watches the queries of one modality.

    Parameters
    ----------
    fingerprint, dim : of their space.
    window : queries of a window.
    metrics : told of every window.
    reference : what they are compared with; None: what is kept in `directory`, else the first ones.
    directory : where baseline and history are kept; None: nowhere.

    Raises
    ------
    FingerprintMismatch
        Reference or directory hold vectors of another space.
    ColdpressError
        They cannot be used.
    """

    def __init__(
        self,
        fingerprint: Fingerprint,
        dim: int,
        window: int,
        metrics: DriftMetrics,
        *,
        reference: tuple[EmbeddingStore, str | None] | None = None,
        directory: Path | None = None,
    ) -> None:
        self._fingerprint, self._dim, self._window, self._metrics = fingerprint, dim, window, metrics
        self._directory, self._rng = directory, np.random.default_rng(0)
        self._monitor: DriftMonitor | None = None
        self._origin = f"the first {BASELINE_WINDOWS * window:,} queries"
        if reference is not None:
            store, output = reference
            self._monitor = DriftMonitor(store, window=window, output=output)
            self._origin = f"{len(store):,} vectors given by the operator"
        elif directory is not None and is_monitor(directory):
            self._monitor = DriftMonitor.open(directory)
            self._window = self._monitor.window
        if self._monitor is not None:
            self._monitor.reference.check(fingerprint)
        self._sample = self._empty()
        self._waiting: queue.Queue[Rows | None] = queue.Queue(WAITING)
        self._rest_until, self._dropped = 0.0, 0
        self._thread = threading.Thread(target=self._run, name="coldpress-serve-drift", daemon=True)
        self._tell()

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Look at what waits, and end."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def offer(self, vectors: Rows) -> None:
        """Hand over the vectors (N, D) of a request; returns at once."""
        step = -(-len(vectors) // PER_REQUEST)
        try:
            self._waiting.put_nowait(vectors[::step].copy())
        except queue.Full:
            self._dropped += 1
            self._metrics.dropped.inc()

    def describe(self) -> Mapping[str, Any]:
        """Where it stands, as plain JSON values."""
        monitor = self._monitor
        known: dict[str, Any] = {
            "state": "learning" if monitor is None else "watching",
            "reference": self._origin,
            "window": self._window,
            "pending": min(self._sample.seen, len(self._sample.rows)),
            "needed": len(self._sample.rows),
            "dropped_requests": self._dropped,
        }
        if monitor is None:
            return known | {"alarm": False, "history": []}
        report = monitor.report()
        past = monitor.history[-SHOWN:]
        known |= {name: getattr(report, name) for name in ("alarm", "level", "windows", "alarms")}
        known |= {name: getattr(report, name) for name in ("statistic", "threshold", "p_value")}
        known["windows_between_false_alarms"] = report.windows_between_false_alarms
        known["history"] = [
            {
                "ended": one.ended,
                "statistic": one.verdict.statistic,
                "threshold": one.verdict.threshold,
                "p_value": one.verdict.p_value,
                "alarm": one.verdict.alarm,
            }
            for one in past
        ]
        return known

    def _run(self) -> None:
        while (rows := self._next()) is not None:
            try:
                self._sample.add(rows)
                if self._sample.full and time.monotonic() >= self._rest_until:
                    begun = time.monotonic()
                    self._close()
                    self._rest_until = time.monotonic() + REST * (time.monotonic() - begun)
            except Exception:  # whatever goes wrong here must not end the watch, nor the server
                logger.exception("drift: a window was lost")
                self._sample = self._empty()

    def _next(self) -> Rows | None:
        """The next vectors; none of them when a window that is full need not wait any longer."""
        left_s = max(0.0, self._rest_until - time.monotonic()) if self._sample.full else None
        try:
            return self._waiting.get(timeout=left_s)
        except queue.Empty:
            return np.empty((0, self._dim), np.float32)

    def _close(self) -> None:
        """The sample is full: it is the baseline, or a window."""
        sample, self._sample = self._sample, self._empty()
        if self._monitor is None:
            rows = self._rng.permutation(sample.rows)
            reference = Reference.of(rows, len(rows), self._fingerprint, seed=0)
            self._monitor = DriftMonitor(reference, window=self._window)
            self._sample = self._empty()
            logger.info("drift: the first %d queries are what later ones are compared with", len(rows))
        else:
            (window,) = self._monitor.update(sample.rows)
            self._metrics.windows.inc()
            if window.verdict.alarm:
                self._metrics.alarms.inc()
                logger.warning("drift: the last %d queries differ from %s", window.items, self._origin)
        self._tell()
        if self._directory is not None:
            try:
                self._monitor.save(self._directory)
            except StoreError as error:
                logger.error("drift: %s", error)

    def _empty(self) -> Sample:
        windows = BASELINE_WINDOWS if self._monitor is None else 1
        return Sample(windows * self._window, self._dim, self._rng)

    def _tell(self) -> None:
        self._metrics.window_items.set(self._window)
        if self._monitor is not None and self._monitor.history:
            verdict = self._monitor.history[-1].verdict
            self._metrics.statistic.set(verdict.statistic)
            self._metrics.threshold.set(verdict.threshold)
            self._metrics.p_value.set(verdict.p_value)
            self._metrics.alarm.set(verdict.alarm)


def open_watches(places: Places, opened: Opened, metrics: Metrics) -> dict[Modality, DriftWatch]:
    """A watch for each modality; a store of queries is for those of its own.

    Raises
    ------
    ColdpressError, FingerprintMismatch
        As of :class:`DriftWatch`.
    """
    given = _given(places.drift, opened)
    made = opened.index or opened.head
    output = None if made is None else made.output
    watches = {}
    for modality, encoder in opened.encoders.items():
        own = given is not None and given.description.get("modality") in (None, modality)
        watches[modality] = DriftWatch(
            encoder.extractor.fingerprint,
            encoder.dim,
            places.drift_window,
            metrics.drift(modality),
            reference=(given, output) if given is not None and own else None,
            directory=None if places.drift is None or given is not None else Path(places.drift) / modality,
        )
    return watches


def _given(place: str | None, opened: Opened) -> EmbeddingStore | None:
    """The store that the operator has named, if it is one."""
    if place is None:
        return None
    if not is_store(place):
        there = list(Path(place).iterdir()) if Path(place).is_dir() else []
        if is_url(place) or Path(place).is_file() or (there and not any(is_monitor(path) for path in there)):
            raise ColdpressError(f"--drift {place} is neither a store nor a place for a baseline: name a new directory")
        return None
    store = EmbeddingStore(place)
    modality = store.description.get("modality")
    if modality is not None and modality not in opened.encoders:
        raise ColdpressError(f"--drift {place} holds {modality}s, which this server does not take: name another store")
    return store
