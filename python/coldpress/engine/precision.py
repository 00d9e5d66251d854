"""Which arithmetic a backbone runs in, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coldpress.errors import ColdpressError

Precision = Literal["auto", "fp32", "fp16", "bf16", "int8", "fp8"]
AVAILABLE: tuple[Precision, ...] = ("fp32",)
"""Modes this version can run, fastest last."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The mode of a run and one sentence that says why."""

    mode: str
    reason: str


def choose_precision(asked: str) -> Choice:
    """Resolve ``auto`` and refuse what cannot run.

    Raises
    ------
    ColdpressError
        If the mode is unknown or not available.
    """
    if asked == "auto":
        return Choice(AVAILABLE[-1], "the fastest mode available in this version")
    if asked not in AVAILABLE:
        raise ColdpressError(f"precision {asked!r} is not available; expected auto or {', '.join(AVAILABLE)}")
    return Choice(asked, "as asked")
