"""Stopping a run: the first SIGINT or SIGTERM lets it finish its shard, a second one ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from coldpress.cli import _terminal as terminal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Whether the run was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

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
        terminal.complain(f"{self.signal.name}: finishing the shard under way; {again} to stop at once and lose it")


@contextmanager
def finish_shard_on_signal() -> Iterator[Stopping]:
    """Handle both signals while a run goes on."""
    stopping = Stopping()
    before = {number: signal.signal(number, stopping.handle) for number in SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
