"""How to run, as opposed to what to compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coldpress._process import cores
from coldpress.engine.delivery import Crew
from coldpress.engine.summary import Progress
from coldpress.errors import ColdpressError
from coldpress.types import Modality


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run, as opposed to what to compute. `settling_s` were spent before; a `crew` computes elsewhere."""

    workers: int
    on_error: str = "skip"
    retry_failed: bool = False
    reuse: str | Path | None = None
    settling_s: float = 0.0
    on_progress: Callable[[Progress], None] | None = None
    should_stop: Callable[[], bool] | None = None
    crew: Crew | None = None


def run_options(
    modality: Modality,
    workers: int | None,
    on_error: str,
    *,
    retry_failed: bool,
    reuse: str | Path | None,
    on_progress: Callable[[Progress], None] | None,
) -> RunOptions:
    """The options of a run; raises ColdpressError for what they cannot be."""
    if on_error not in ("skip", "fail"):
        raise ColdpressError(f"on_error is {on_error!r}, expected skip or fail")
    if workers is not None and workers < 1:
        raise ColdpressError(f"workers is {workers}, expected at least 1")
    return RunOptions(workers or default_workers(modality), on_error, retry_failed, reuse, on_progress=on_progress)


def default_workers(modality: Modality) -> int:
    """Threads that read and preprocess: three for texts, one a core for images.

    A tokenizer has threads of its own, and what Python does before and after them is serial: with three, static
    embeddings of short texts run at 1.5 times the speed of one on two cores, MiniLM in int8 at the same.
    """
    return cores() if modality == "image" else 3
