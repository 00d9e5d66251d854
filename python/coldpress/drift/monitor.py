"""`DriftMonitor`: the same test over a stream, window by window, in memory that does not grow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.drift import saving
from coldpress.drift.mmd import permutations_for
from coldpress.drift.reference import Reference
from coldpress.drift.sample import MIN_NEW, TUNED, Floats, blocks_of, draw, read_rows
from coldpress.drift.windows import Window
from coldpress.errors import ColdpressError
from coldpress.probes.features import checked

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

LEVEL = 0.001
"""Of each window: one false alarm in a thousand of them. A stream has many."""
KEPT = 1000
"""Windows that are remembered."""
SAMPLE = 2048 + TUNED
"""Rows of the reference that are kept: of more, a window of 500 would gain little, and take longer to be tested."""


@dataclass(frozen=True, slots=True)
class MonitorReport:
    """Where a stream stands.

    Attributes
    ----------
    statistic, threshold, p_value : float or None
        Of the last window; None before the first is full. See :class:`Verdict`.
    alarm : bool
        Whether the last window differs from the reference by more than chance.
    level : float
        The rate of false alarms of each window.
    windows_between_false_alarms : float
        How many windows go by, on average, from one false alarm to the next, where nothing has changed: 1 / `level`.
    window : int
        Rows of a window.
    pending : int
        Rows of the window that is not full yet.
    windows, alarms : int
        So far.
    """

    statistic: float | None
    threshold: float | None
    p_value: float | None
    alarm: bool
    level: float
    windows_between_false_alarms: float
    window: int
    pending: int
    windows: int
    alarms: int


class DriftMonitor:
    """Compares each `window` rows of a stream with a reference.

    Holds a sample of the reference, one window and a short record of the last 1,000, whatever has gone by. All windows
    are compared with the same sample, so their results are not independent: a reference that is odd by chance is so for
    all of them.

    Parameters
    ----------
    reference : EmbeddingStore, Reference or array-like (N, D)
        What the rows should be like; at least 50 rows, of which up to 2,304 are kept.
    window : int
        Rows that are tested together: the more, the smaller the change that is found, and the later.
    level : float
        The rate of false alarms of each window.
    output : str, optional
        Of a store that holds several; None: its first.
    seed : int
        For the draws.

    Raises
    ------
    ColdpressError
        Too few rows, rows that are not finite, a window below 10 rows, a level that is none.

    Examples
    --------
    >>> monitor = DriftMonitor(coldpress.EmbeddingStore("june"), window=1000)        # doctest: +SKIP
    >>> for vectors in stream:                                                       # doctest: +SKIP
    ...     for window in monitor.update(vectors):
    ...         print(window.name, window.verdict.alarm)
    >>> monitor.save("june.monitor")                                                 # doctest: +SKIP
    """

    def __init__(
        self,
        reference: EmbeddingStore | Reference | npt.ArrayLike,
        *,
        window: int = 500,
        level: float = LEVEL,
        output: str | None = None,
        seed: int = 0,
    ) -> None:
        permutations_for(level)
        if window < MIN_NEW:
            raise ColdpressError(f"a window of {window} rows is too small to be tested, expected at least {MIN_NEW}")
        self.reference = _reference(reference, output, seed)
        self.window, self.level, self.output, self.seed = window, level, output, seed
        self._rows: Floats = np.empty((window, self.reference.dim), np.float32)
        self._pending = self._windows = self._alarms = 0
        self._history: deque[Window] = deque(maxlen=KEPT)

    def update(self, vectors: EmbeddingStore | npt.ArrayLike) -> tuple[Window, ...]:
        """Take in rows (N, D), or all of a store, and return the windows that they have filled.

        Raises
        ------
        FingerprintMismatch
            The store holds vectors of another space.
        ColdpressError
            Wrong shape or width, a row that is not finite; nothing of an array is taken in then.
        """
        found: list[Window] = []
        for block in self._blocks(vectors):
            rest = block
            while len(rest):
                taken = rest[: self.window - self._pending]
                self._rows[self._pending : self._pending + len(taken)] = taken
                self._pending += len(taken)
                rest = rest[len(taken) :]
                if self._pending == self.window:
                    found.append(self._close())
        return tuple(found)

    def report(self) -> MonitorReport:
        """Where the stream stands."""
        last = self._history[-1].verdict if self._history else None
        return MonitorReport(
            statistic=None if last is None else last.statistic,
            threshold=None if last is None else last.threshold,
            p_value=None if last is None else last.p_value,
            alarm=last is not None and last.alarm,
            level=self.level,
            windows_between_false_alarms=1 / self.level,
            window=self.window,
            pending=self._pending,
            windows=self._windows,
            alarms=self._alarms,
        )

    @property
    def history(self) -> tuple[Window, ...]:
        """The last 1,000 windows, the oldest first."""
        return tuple(self._history)

    def save(self, directory: str | Path) -> None:
        """Write reference, history and the rows that wait, in place of what is there, at once or not at all.

        Raises
        ------
        StoreError
            The directory cannot be written.
        """
        header = {
            "window": self.window,
            "level": self.level,
            "output": self.output,
            "seed": self.seed,
            "windows": self._windows,
            "alarms": self._alarms,
            "history": [saving.window_to_json(window) for window in self._history],
        }
        saving.save(Path(directory), self.reference, self._rows[: self._pending], header)

    @classmethod
    def open(cls, directory: str | Path) -> DriftMonitor:
        """Read a monitor that :meth:`save` wrote; it goes on where that one was.

        Raises
        ------
        StoreError
            `directory` is not a monitor, is of another format version, or damaged.
        """
        with saving.explained(Path(directory)):
            reference, rows, header = saving.read(Path(directory))
            names = ("window", "level", "output", "seed")
            monitor = cls(reference, **{name: header[name] for name in names})
            monitor._rows[: len(rows)] = rows
            monitor._pending = len(rows)
            monitor._windows, monitor._alarms = header["windows"], header["alarms"]
            monitor._history.extend(saving.window_from_json(one) for one in header["history"])
        return monitor

    def _close(self) -> Window:
        seed = self.seed + 1 + self._windows
        verdict = self.reference.compare(self._rows, level=self.level, seed=seed)
        window = Window(f"{self._windows * self.window:,}", self.window, verdict, time.time())
        self._history.append(window)
        self._windows, self._alarms, self._pending = self._windows + 1, self._alarms + verdict.alarm, 0
        return window

    def _blocks(self, vectors: Any) -> Iterable[Floats]:
        if hasattr(vectors, "embeddings"):
            self.reference.check(vectors.fingerprint)
            return (block for _, block in blocks_of(vectors, self.output))
        return [_checked(vectors, self.reference.dim)]


def _checked(vectors: npt.ArrayLike, dim: int | None = None) -> Floats:
    given = np.asarray(vectors)
    if given.ndim != 2 or given.shape[1] != (dim or given.shape[1]):
        raise ColdpressError(
            f"vectors have shape {given.shape}, expected (N, {dim or 'D'}) of the space of the reference: pass one"
            " vector as vector[None]"
        )
    return checked(given, np.float32, lambda row: f"vector {row}")


def _reference(given: Any, output: str | None, seed: int) -> Reference:
    if isinstance(given, Reference):
        return given
    if not hasattr(given, "embeddings"):
        vectors = _checked(given)
        return Reference.of(vectors[draw(len(vectors), SAMPLE, seed)], len(vectors), None, seed=seed)
    drawn = read_rows(given, output, draw(len(given), SAMPLE, seed))
    return Reference.of(drawn, len(given), given.fingerprint, seed=seed)
