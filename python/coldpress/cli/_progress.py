"""How far a run is: a live bar on a terminal, else a line every ten seconds. Both on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as LiveBar
from rich.status import Status

from coldpress.cli import _terminal as terminal
from coldpress.cli._format import duration

if TYPE_CHECKING:
    from coldpress.engine import Progress

LINE_EVERY_S = 10.0


@contextmanager
def busy(what: str) -> Iterator[None]:
    """A spinner beside `what`, on a terminal."""
    with steps(what):
        yield


def loading(what: str) -> AbstractContextManager[None]:
    """A spinner while `what` is loaded, on a terminal."""
    return busy(f"Loading {what}")


@contextmanager
def steps(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner beside `what` and each step that it is told of; without a terminal a line every ten seconds."""
    console, last = terminal.stderr(), time.monotonic()
    if console.is_terminal:
        with Status(f"{what} …", console=console) as status:
            yield lambda step: status.update(f"{what}: {step} …")
        return

    def say(step: str) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            terminal.complain(f"{what}: {step}")

    yield say


class ProgressDisplay:
    """Call it with every `Progress` of a run; a context manager, so that the terminal is left tidy.

    The rate leaves out the first report, so that neither warm-up nor what an earlier run has done flatters or
    spoils it. `total` serves where the source itself does not know how many items it has.
    """

    def __init__(self, total: int | None = None) -> None:
        self._total = total
        self._first: tuple[int, float] | None = None
        self._last_line = 0.0
        self._now: Progress | None = None
        console = terminal.stderr()
        self._bar = _live_bar() if console.is_terminal else None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressDisplay:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("Embedding", total=self._total, rate="", failed="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show where the run stands."""
        if self._first is None:
            self._first = (progress.done, progress.seconds)
        self._now = progress
        total = self._total if progress.total is None else progress.total
        rate = self._rate(progress)
        left = f"{duration((total - progress.done) / rate)} left" if rate and total and total > progress.done else ""
        pace = ", ".join(part for part in (f"{rate:,.0f}/s" if rate else "", left) if part)
        if self._bar is not None and self._task is not None:
            failed = f"{progress.failed:,} failed" if progress.failed else ""
            self._bar.update(self._task, completed=progress.done, total=total, rate=pace, failed=failed)
        elif progress.seconds - self._last_line >= LINE_EVERY_S:
            self._last_line = progress.seconds
            of = "" if total is None else f" of {total:,}"
            terminal.complain(f"{progress.done:,}{of} inputs, {progress.failed:,} failed, {pace or 'warming up'}")

    def left_of_shard(self, shard_rows: int) -> str:
        """About how long the shard under way still takes, ``12m00s``; empty where that is not known yet."""
        now = self._now
        if now is None or not (rate := self._rate(now)):
            return ""
        inputs, total = shard_rows - now.done % shard_rows, self._total if now.total is None else now.total
        return duration((inputs if total is None else max(min(inputs, total - now.done), 0)) / rate)

    def _rate(self, progress: Progress) -> float:
        done, seconds = self._first or (0, 0.0)
        return (progress.done - done) / (progress.seconds - seconds) if progress.done > done else 0.0


def _live_bar() -> LiveBar:
    return LiveBar(
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("[cyan]{task.fields[rate]}[/]"),
        TextColumn("[red]{task.fields[failed]}[/]"),
        TimeElapsedColumn(),
        console=terminal.stderr(),
    )
