"""The stages of a run, each against the limit that it has by itself."""

from __future__ import annotations

from dataclasses import dataclass

from coldpress.bench.limits import Limits
from coldpress.engine import Summary
from coldpress.engine.summary import bottleneck
from coldpress.types import Modality

_PREPARING: dict[Modality, tuple[str, ...]] = {"text": ("tokenize",), "image": ("decode", "resize")}

STORED_BYTES = 2
"""Of a component of a stored vector: float16."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the limits of a model follow from; `prepared_alone_per_s` is the tokenizer or the decoder by itself."""

    modality: Modality
    flop_per_item: float
    bytes_per_item: float
    prepared_alone_per_s: float


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run.

    Attributes
    ----------
    items_per_s : while it is busy, with the threads it has in the run.
    utilisation : share of the run, its certificate left out, that they are busy.
    limit : items per second that it cannot exceed, and `limited_by`, in words; None where that is unknown.
    """

    name: str
    items_per_s: float
    utilisation: float
    limit: float | None
    limited_by: str

    @property
    def reached(self) -> float | None:
        """Share of the limit."""
        return None if self.limit is None else self.items_per_s / self.limit


def steady_s(run: Summary) -> float:
    """Seconds of a run without its certificate, which is taken once however long it is."""
    return run.seconds - run.stages.get("certify", 0.0)


def steady_bottleneck(run: Summary, facts: Facts) -> str:
    """What limits the run once the certificate is taken, in a sentence."""
    share = run.seconds / steady_s(run)
    utilisation = {name: min(used * share, 1.0) for name, used in run.utilisation.items() if name != "certify"}
    return bottleneck(utilisation, _PREPARING[facts.modality], run.workers)


def stages_of(run: Summary, limits: Limits, facts: Facts, dim: int) -> tuple[Stage, ...]:
    """Read, preprocess, compute and write of a run; `dim` is the width of the stored vectors."""
    texts, workers = facts.modality == "text", run.workers
    reading = {"source": 1} if texts else {"source": 1, "read": workers}
    preparing = dict.fromkeys(_PREPARING[facts.modality], workers)
    peak = limits.peak(run.precision)
    alone = "the tokenizer alone" if texts else "JPEG decoding alone"
    disk_reads, disk_writes = limits.disk.read / max(facts.bytes_per_item, 1), limits.disk.write / (STORED_BYTES * dim)
    flop = None if peak is None or not facts.flop_per_item else peak / facts.flop_per_item
    return (
        _stage("read", run, reading, disk_reads, "what the disk reads"),
        _stage("preprocess", run, preparing, facts.prepared_alone_per_s, alone),
        _stage("compute", run, {"compute": 1}, flop, f"{run.precision} peak, all cores"),
        _stage("write", run, {"write": 1}, disk_writes, "what the disk writes"),
    )


def _stage(name: str, run: Summary, threads: dict[str, int], limit: float | None, limited_by: str) -> Stage:
    """One stage out of steps of the summary and the number of threads that each has."""
    seconds = sum(run.stages.get(step, 0.0) / count for step, count in threads.items())
    seconds = max(seconds, 1e-9)
    return Stage(name, run.processed / seconds, seconds / steady_s(run), limit, limited_by)
