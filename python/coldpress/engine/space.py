"""What two sets of vectors must share to be comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from coldpress.engine.precision import Choice
from coldpress.models import LoadedModel
from coldpress.store import Projection
from coldpress.types import Fingerprint, Output

NUMERICS = 2
"""Raised whenever a change of coldpress changes the vectors beyond rounding."""


def fingerprint(
    model: LoadedModel,
    outputs: Sequence[Output],
    choice: Choice,
    *,
    dim: int,
    truncate_dim: int | None,
    pca: int | Projection | None,
) -> Fingerprint:
    """The space of a model's outputs, computed in the arithmetic of `choice`, reduced to the width `dim` or not."""
    fields: dict[str, Any] = {
        "numerics": NUMERICS,
        "weights": model.weights,
        "family": model.family,
        "config": dict(model.config),
        "preprocessing": asdict(model.spec),
        "output": [asdict(output) for output in outputs],
        "precision": choice.mode,
    }
    if choice.layers:
        fields["layer_precision"] = dict(sorted(choice.layers.items()))
    if choice.mode in model.backbone.calibrated:
        fields["calibration"] = model.calibration
    reduced: dict[str, Any] = {}
    if truncate_dim is not None:
        reduced["truncate_dim"] = truncate_dim
    if pca is not None:
        reduced["pca"] = {"dim": dim, "sha256": pca.digest if isinstance(pca, Projection) else None}
    if model.space and any(output.own for output in outputs):
        fields["space"] = {"checkpoint": model.space, "tower": model.backbone.modality, **reduced}
    return Fingerprint(fields | reduced)
