"""How long packed sequences are, where the caller knows: a GPU can then be given work without being asked first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lengths:
    """No sequence has more than `longest` tokens; where all are `equal`, each has so many."""

    longest: int
    equal: bool


_known: ContextVar[Lengths | None] = ContextVar("_known", default=None)


@contextmanager
def known_lengths(longest: int | None, *, equal: bool = False) -> Iterator[None]:
    """Tell the ops that run inside, in this thread, how long sequences are; None if nobody knows.

    Where fewer tokens ask in attention than there are, it is then one of each sequence.
    """
    token = _known.set(None if longest is None else Lengths(longest, equal))
    try:
        yield
    finally:
        _known.reset(token)


def lengths() -> Lengths | None:
    """What is known here."""
    return _known.get()
