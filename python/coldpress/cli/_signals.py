"""Stopping a run: the first SIGINT or SIGTERM lets it finish its shard, a second one ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from coldpress.cli import _terminal as terminal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Whether the run was asked to stop, and by which signal.

    Parameters
    ----------
    left : how long the shard under way still takes, empty where that is not known.
    """

    def __init__(self, left: Callable[[], str]) -> None:
        self.signal: signal.Signals | None = None
        self._left = left

    def __call__(self) -> bool:
        """What the run asks at the end of each shard."""
        return self.signal is not None

    @property
    def exit_status(self) -> int:
        """What a shell expects of a process that such a signal has ended: 130 or 143."""
        return 128 + (self.signal or signal.SIGINT)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Take note of the first signal; a second one interrupts whatever is going on."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        again = "press Ctrl-C again" if self.signal is signal.SIGINT else "send the signal again"
        takes = f", about {left}" if (left := self._left()) else ""
        terminal.complain(
            f"{self.signal.name}: finishing the shard under way{takes}; {again} to stop at once and lose it"
        )


@contextmanager
def finish_shard_on_signal(left: Callable[[], str]) -> Iterator[Stopping]:
    """Handle both signals while a run goes on; `left` as of `Stopping`."""
    stopping = Stopping(left)
    before = {number: signal.signal(number, stopping.handle) for number in SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
