"""timm's ``config.json``: the preprocessing in it, and what the bare name of an architecture stands for.

Source: https://github.com/huggingface/pytorch-image-models/blob/v1.0.22/timm/data/config.py and transforms_factory.py
(Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from coldpress.errors import ModelError
from coldpress.models.specs import channels
from coldpress.types import ImageSpec

_DEFAULTS: Mapping[str, Any] = {
    "input_size": [3, 224, 224],
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
}
"""What timm takes where ``pretrained_cfg`` does not say. Mean and deviation it has to say: they differ by weights."""


def named_architecture(name: str, family_of: Callable[[Mapping[str, Any]], ModuleType | None]) -> dict[str, Any]:
    """Make the ``config.json`` that the name of an architecture stands for, with the tag of its weights behind a dot.

    Raises
    ------
    ModelError
        If no family knows it, or its preprocessing depends on the weights and no tag says which.
    """
    architecture, _, tag = name.partition(".")
    config: dict[str, Any] = {"architecture": architecture}
    family = family_of(config)
    assert family is not None
    return config | {"pretrained_cfg": family.pretrained_cfg(architecture, tag)}


def read_timm_spec(config: Mapping[str, Any], directory: Path) -> ImageSpec:
    """Read ``pretrained_cfg`` as ``timm.data.create_transform`` understands it for evaluation.

    Raises
    ------
    ModelError
        If it asks for a step that coldpress does not have.
    """
    path = directory / "config.json"
    given = config.get("pretrained_cfg") or config  # the older layout has everything at the top
    cfg = {**_DEFAULTS, **{key: value for key, value in given.items() if value}}
    _, height, width = cfg["input_size"]
    mode, resample = cfg["crop_mode"], cfg["interpolation"]
    if mode not in ("center", "squash") or resample not in ("bicubic", "bilinear", "nearest", "lanczos"):
        raise ModelError(f"{path}: crop_mode {mode!r}, interpolation {resample!r}; expected center or squash, bicubic")
    if mode == "center" and height != width:
        raise ModelError(f"{path}: input_size {cfg['input_size']}, expected a square with crop_mode center")
    scaled = [math.floor(side / cfg["crop_pct"]) for side in (height, width)]
    return ImageSpec(
        resize=("exact", *scaled) if mode == "squash" else ("shortest_edge", scaled[0]),
        crop=(height, width),
        resample=resample,
        rescale=1 / 255,
        mean=channels(cfg, "mean", path),
        std=channels(cfg, "std", path),
        crop_rounding="even",
    )
