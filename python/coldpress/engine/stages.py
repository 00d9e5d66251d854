"""The two moving parts of the pipeline: a bounded, ordered map over threads, and a bounded background writer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(work: Callable[[T], R], items: Iterable[T], workers: int) -> Generator[R, None, None]:
    """Yield ``work(item)`` in the order of the items, `workers` at a time, at most two per worker under way.

    The items themselves are drawn in the background too, one at a time: a slow source delays nobody else. Closing
    the generator early cancels what has not begun.
    """
    iterator, end = iter(items), object()

    def draw() -> T | object:
        return next(iterator, end)

    with (
        ThreadPoolExecutor(1, "coldpress-read") as reader,
        ThreadPoolExecutor(workers, "coldpress-prepare") as pool,
    ):

        def step(drawn: Future[T | object]) -> R | object:
            item = drawn.result()
            return end if item is end else work(item)  # type: ignore[arg-type]

        window: deque[Future[R | object]] = deque()
        try:
            while True:
                while len(window) < 2 * workers:
                    window.append(pool.submit(step, reader.submit(draw)))
                result = window.popleft().result()
                if result is end:
                    return
                yield result  # type: ignore[misc]
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
            for future in window:
                future.cancel()


def grouped(
    chunks: Iterable[tuple[list[T], list[R]]], most: int, most_items: int
) -> Generator[tuple[list[T], list[R]], None, None]:
    """Join up to `most` chunks of items with what they became, but none beyond `most_items` items."""
    items: list[T] = []
    made: list[R] = []
    count = 0
    for own, own_made in chunks:
        if items and (count == most or len(items) + len(own) > most_items):
            yield items, made
            items, made, count = [], [], 0
        items, made, count = [*items, *own], [*made, *own_made], count + 1
    if items:
        yield items, made


class Timed(Generic[T]):
    """An iterator that knows how long one has waited for its items: `seconds`."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items, self.seconds = iter(items), 0.0

    def __iter__(self) -> Timed[T]:
        return self

    def __next__(self) -> T:
        begin = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.seconds += time.perf_counter() - begin

    def close(self) -> None:
        """Close the generator behind it, if it is one."""
        if isinstance(self._items, Generator):
            self._items.close()


class Background(Generic[T], AbstractContextManager["Background[T]"]):
    """Hands values to `work` in a thread of its own, in order; at most `depth` wait. Its errors surface here."""

    def __init__(self, work: Callable[[T], None], depth: int = 4) -> None:
        self._work, self._depth = work, depth
        self._pool = ThreadPoolExecutor(1, "coldpress-write")
        self._pending: deque[Future[None]] = deque()
        self.busy = self.waited = 0.0

    def put(self, value: T) -> None:
        """Queue a value; waits while the queue is full."""
        while len(self._pending) >= self._depth:
            self._take()
        self._pending.append(self._pool.submit(self._timed, value))

    def drain(self) -> None:
        """Wait until everything is done."""
        while self._pending:
            self._take()

    def _take(self) -> None:
        start = time.perf_counter()
        self._pending.popleft().result()
        self.waited += time.perf_counter() - start

    def _timed(self, value: T) -> None:
        start = time.perf_counter()
        self._work(value)
        self.busy += time.perf_counter() - start

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
