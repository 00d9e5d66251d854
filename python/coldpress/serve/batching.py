"""`BatchQueue`: what all requests ask for, computed together on one thread.

Nobody waits for a batch to fill: while the thread computes one, the next gathers, so batches grow with the load. A
batch takes what has waited longest up to a budget (tokens of text, images); a request that has more goes to the end of
the line with the rest, so that a large one does not hold up the small ones.

Between the event loop and the thread there is one batch at a time. All state belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from math import ceil
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from coldpress.serve.refusals import engine_down, overloaded

logger = logging.getLogger(__name__)

T = TypeVar("T")
Vector = npt.NDArray[np.float32]
Compute = Callable[[Sequence[T]], npt.NDArray[np.float32]]

STALLED_S = 60.0
"""A batch takes tens of milliseconds; one that takes this long is not coming back."""

IDLE_S = 0.05
"""A pause between batches that is longer means that there was nothing to do."""

REVIVE_S = 5.0
"""How often a dead engine is asked whether it lives again."""


class ItemFailed(Exception):  # noqa: N818 (an outcome)
    """The item of a request that cannot be computed, by its number in the request, and why."""

    def __init__(self, item: int, reason: str) -> None:
        super().__init__(reason)
        self.item, self.reason = item, reason


@dataclass(frozen=True, slots=True)
class Batch:
    """What was computed at once, for the metrics: `waits_s` of the items before it began."""

    items: int
    cost: int
    seconds: float
    waits_s: Sequence[float]


@dataclass(eq=False, slots=True)
class _Job(Generic[T]):
    """The items of one request; `taken` of them are in a batch or done, the others cost `left`."""

    items: Sequence[T]
    costs: Sequence[int]
    done: asyncio.Future[None]
    left: int
    begun: float = field(default_factory=time.perf_counter)
    taken: int = 0
    missing: int = 0
    rows: list[Vector] = field(default_factory=list)


class BatchQueue(Generic[T]):
    """A bounded queue in front of a function of many items.

    Parameters
    ----------
    compute : items to vectors (N, D), one each; called in `thread`, one call at a time.
    thread : with one worker; queues may share it.
    canary : an item that can be computed. If it fails behind another failure, it is the engine that is broken.
    budget : cost of a batch, at most; an item that costs more is computed alone.
    capacity : cost of all that may wait; a request beyond it is refused with 429.
    patience_s : how long a request may have to wait for others, by the rate of the last batches; else 429 too.
    expiry_s : whose turn has not come by then is refused with 429 as well.
    on_batch : told of every batch.
    """

    def __init__(
        self,
        compute: Compute[T],
        thread: Executor,
        *,
        canary: T,
        budget: int,
        capacity: int,
        patience_s: float,
        expiry_s: float,
        on_batch: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        self._compute, self._thread, self._canary = compute, thread, canary
        self.budget, self.capacity = budget, capacity
        self.patience_s, self.expiry_s = patience_s, expiry_s
        self._on_batch = on_batch
        self._jobs: OrderedDict[_Job[T], None] = OrderedDict()  # in the order of their turns
        self._arrival = asyncio.Event()
        self.waiting = 0
        self._rate = 0.0  # cost per second
        self._last_end = 0.0
        self._busy_since: float | None = None
        self._broken = False

    @property
    def alive(self) -> bool:
        """Whether anything can be computed."""
        stalled = self._busy_since is not None and time.perf_counter() - self._busy_since > STALLED_S
        return not (self._broken or stalled)

    def delay_s(self, cost: int) -> float:
        """Seconds until a request of that cost would be done, by the rate of the last batches; 0 while that is unknown.

        Those ahead take turns with it, so it waits for as many of their batches as it has itself.
        """
        own = ceil(cost / self.budget) * self.budget
        ahead = sum(min(job.left, own) for job in self._jobs)
        return ahead / self._rate if self._rate else 0.0

    async def __call__(self, items: Sequence[T], costs: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the vectors (N, D) of the items of a request; cancelling it takes what waits out of the queue.

        Raises
        ------
        Refused
            429 if too much waits already, 503 if the engine is dead.
        ItemFailed
            For the first item that cannot be computed.
        """
        if not self.alive:
            raise engine_down()
        total = sum(costs)
        delay_s = self.delay_s(total)
        if self._jobs and (self.waiting + total > self.capacity or delay_s > self.patience_s):
            raise overloaded(delay_s)
        job = _Job(items, costs, asyncio.get_running_loop().create_future(), left=total, missing=len(items))
        job.rows = [np.empty(0, np.float32)] * len(items)
        self._jobs[job] = None
        self.waiting += total
        self._arrival.set()
        expiry = asyncio.get_running_loop().call_later(self.expiry_s, self._expire, job)
        try:
            await job.done
        finally:
            expiry.cancel()
            self._drop(job)
        return np.stack(job.rows)

    @property
    def full_for_s(self) -> float:
        """Seconds until even the smallest request would be let in; 0 if it is now."""
        delay_s = self.delay_s(1)
        return delay_s if self._jobs and delay_s > self.patience_s else 0.0

    async def run(self) -> None:
        """Compute what arrives, until cancelled."""
        while True:
            await self._arrival.wait()
            self._arrival.clear()
            while batch := self._take():
                await self._serve(batch)
            if self._broken:
                await self._revive()

    def _drop(self, job: _Job[T]) -> None:
        if job in self._jobs:
            del self._jobs[job]
            self.waiting -= job.left

    def _expire(self, job: _Job[T]) -> None:
        """Send away who has waited for nothing before the deadline does: the load grew faster than was foreseen."""
        if job.taken == 0:
            self._finish(job, overloaded(self.delay_s(job.left)))

    def _take(self) -> list[tuple[_Job[T], int]]:
        """The next items, each with the job that they belong to."""
        batch: list[tuple[_Job[T], int]] = []
        room = self.budget
        while self._jobs and room > 0:
            job, before = next(iter(self._jobs)), len(batch)
            while job.taken < len(job.items) and (job.costs[job.taken] <= room or not batch):
                batch.append((job, job.taken))
                room -= job.costs[job.taken]
                self.waiting -= job.costs[job.taken]
                job.left -= job.costs[job.taken]
                job.taken += 1
            if job.taken < len(job.items):
                if len(batch) > before:
                    self._jobs.move_to_end(job)
                break
            del self._jobs[job]
        return batch

    async def _serve(self, batch: list[tuple[_Job[T], int]]) -> None:
        begun = self._busy_since = time.perf_counter()
        items = [job.items[i] for job, i in batch]
        try:
            rows = await asyncio.get_running_loop().run_in_executor(self._thread, self._attempt, items)
        finally:
            self._busy_since = None
        seconds, cost = time.perf_counter() - begun, sum(job.costs[i] for job, i in batch)
        self._learn_rate(cost, begun)
        for (job, i), row in zip(batch, rows, strict=True):
            self._deliver(job, i, row)
        self._on_batch(Batch(len(batch), cost, seconds, [begun - job.begun for job, _ in batch]))
        if self._broken:
            for job in list(self._jobs):
                self._finish(job, engine_down())

    def _learn_rate(self, cost: int, begun: float) -> None:
        """Count the time between two batches, too: a busy event loop is slow to start the second."""
        end = time.perf_counter()
        since = begun if begun - self._last_end > IDLE_S else self._last_end
        self._last_end = end
        rate = cost / (end - since)
        self._rate = rate if not self._rate else 0.8 * self._rate + 0.2 * rate

    def _deliver(self, job: _Job[T], i: int, row: Vector | Exception) -> None:
        if isinstance(row, Exception):
            self._finish(job, engine_down() if self._broken else ItemFailed(i, str(row) or type(row).__name__))
            return
        job.rows[i] = row
        job.missing -= 1
        if job.missing == 0:
            self._finish(job, None)

    def _finish(self, job: _Job[T], error: Exception | None) -> None:
        self._drop(job)
        if job.done.done():
            return
        if error is None:
            job.done.set_result(None)
        else:
            job.done.set_exception(error)

    def _attempt(self, items: Sequence[T]) -> list[Vector | Exception]:
        """In the thread: a vector for each item, or what went wrong with it alone."""
        rows = self._each(items)
        if any(isinstance(row, Exception) for row in rows) and not self._breathes():
            logger.error("the engine fails on what it could compute before: no request is computed until it recovers")
            self._broken = True
        return rows

    def _each(self, items: Sequence[T]) -> list[Vector | Exception]:
        """Halve a batch that fails until what makes it fail is alone."""
        try:
            vectors = self._compute(items)
        except Exception as error:  # whatever an item provokes must not reach the others
            if len(items) == 1:
                logger.warning("an item cannot be computed: %s: %s", type(error).__name__, error)
                return [error]
            middle = len(items) // 2
            return self._each(items[:middle]) + self._each(items[middle:])
        return [row if np.isfinite(row).all() else ValueError("the vector holds NaN or infinity") for row in vectors]

    def _breathes(self) -> bool:
        return not isinstance(self._each([self._canary])[0], Exception)

    async def _revive(self) -> None:
        """Ask a dead engine now and then; whoever comes meanwhile is sent away."""
        while self._broken:
            await asyncio.sleep(REVIVE_S)
            if await asyncio.get_running_loop().run_in_executor(self._thread, self._breathes):
                logger.warning("the engine computes again")
                self._broken = False
