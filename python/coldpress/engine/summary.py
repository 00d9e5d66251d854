"""What a run reports: while it goes on, and when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from coldpress.types import Certificate


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. `done` counts inputs of this run and of the ones it resumes; `total` may be unknown."""

    done: int
    total: int | None
    failed: int
    duplicates: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    `inputs`, `rows`, `failed`, `duplicates` describe the whole store; `resumed` of the inputs were committed by
    earlier runs; `seconds`, `rows_per_s`, `truncated`, `tokens` and `stages` (busy seconds) describe this run.
    """

    store: str
    inputs: int
    rows: int
    failed: int
    duplicates: int
    truncated: int
    tokens: int
    resumed: int
    seconds: float
    rows_per_s: float
    precision: str
    precision_reason: str
    certificate: Certificate | None
    stages: Mapping[str, float]
    bottleneck: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def bottleneck(stages: Mapping[str, float], seconds: float) -> str:
    """Say in one sentence what limits a run, and what to change for more speed."""
    if seconds <= 0:
        return "Nothing was left to do."
    compute, waiting = stages.get("compute", 0.0) / seconds, stages.get("wait_input", 0.0) / seconds
    blocked = stages.get("wait_write", 0.0) / seconds
    if blocked > max(waiting, 0.2):
        return f"Writing limits this run (compute waited {blocked:.0%} of the time for it): use a faster disk."
    if waiting > 0.2:
        inputs = {
            k: v for k, v in stages.items() if k not in ("compute", "write", "certify", "wait_input", "wait_write")
        }
        slowest = max(inputs, key=lambda name: inputs[name], default="read")
        return (
            f"Preparing inputs limits this run (compute waited {waiting:.0%} of the time, mostly for {slowest}): "
            "raise --workers, or use a faster disk."
        )
    return f"Compute limits this run (busy {compute:.0%} of the time): more cores, a GPU or a smaller model help."
