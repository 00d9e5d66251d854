"""What a run reports: while it goes on, and when it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from coldpress._process import cores
from coldpress.types import Certificate, mode_label


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands in its source: `done` counts what it has done or passed over; `total` may be unknown."""

    done: int
    total: int | None
    failed: int
    duplicates: int
    seconds: float


NOTHING_LEFT = "Nothing was left to do."


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    `inputs`, `rows`, `failed`, `duplicates` describe the whole store, everything else this run: `resumed` inputs of the
    source were in the store already, `processed` ones were not; `computed` vectors were computed and `reused` ones
    taken from another store; `retried` inputs that had failed before have a row now; `interrupted` says that it stopped
    at the end of a shard because it was asked to. `layer_precision` names the layers that ran in another
    precision than the rest. `stages` has busy seconds, `utilisation` the share of the run that the threads of a stage
    were busy, `workers` of those that prepare inputs and `processes` that compute.
    """

    store: str
    inputs: int
    rows: int
    failed: int
    duplicates: int
    resumed: int
    processed: int
    computed: int
    reused: int
    retried: int
    truncated: int
    tokens: int
    interrupted: bool
    seconds: float
    rows_per_s: float
    precision: str
    layer_precision: Mapping[str, str]
    precision_reason: str
    certificate: Certificate | None
    stages: Mapping[str, float]
    utilisation: Mapping[str, float]
    workers: int
    processes: int
    bottleneck: str

    @property
    def fruitless(self) -> bool:
        """Whether there were inputs, and not one of the whole store could be embedded."""
        return self.failed > 0 and not self.rows

    @property
    def label(self) -> str:
        """The precision for people."""
        return mode_label(self.precision, self.layer_precision)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def bottleneck(utilisation: Mapping[str, float], preparing: Sequence[str], workers: int) -> str:
    """Say in one sentence what limits a run, and what to change for more speed.

    Parameters
    ----------
    utilisation : share of the run that each stage was busy, or waited.
    preparing : the stages that the workers do.
    """
    waiting, blocked = utilisation.get("wait_input", 0.0), utilisation.get("wait_write", 0.0)
    if blocked > max(waiting, 0.2):
        return f"Writing limits this run (compute waited {blocked:.0%} of the time for it): use a faster disk."
    if waiting <= 0.2:
        compute, certify = utilisation.get("compute", 0.0), utilisation.get("certify", 0.0)
        if certify > compute:
            return f"The certificate took {certify:.0%} of this run: it takes as long for a source of any length."
        return f"Compute limits this run (busy {compute:.0%} of the time): more cores, a GPU or a smaller model help."
    source, busy = utilisation.get("source", 0.0), sum(utilisation[name] for name in preparing)
    waited = f"compute waited {waiting:.0%} of the time"
    if source > busy:
        return (
            f"Reading the source limits this run ({waited}, one thread reads and was busy {source:.0%}): "
            "use a faster disk, less compression, or several runs over parts of it."
        )
    slowest = max(preparing, key=lambda name: utilisation[name], default="preparing")
    remedy = (
        f"all {cores()} cores are taken: more cores{', smaller photos or --fast-decode' * (slowest == 'decode')} help"
        if workers >= cores() and slowest != "read"
        else "raise --workers"
    )
    return (
        f"Preparing inputs limits this run ({waited}; {workers} workers were busy {busy:.0%}, "
        f"mostly with {slowest}): {remedy}."
    )
