"""ConvNeXt: tiny cases for the conformance suite."""

from __future__ import annotations

from typing import Any

from conformance import Case
from test_vit import processor
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextModel,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
    ConvNextV2Model,
)

SIZES: dict[str, Any] = {"hidden_sizes": [16, 24, 40], "depths": [1, 2, 1], "num_stages": 3}
SCALED = SIZES | {"layer_scale_init_value": 0.5}
UNSCALED: dict[str, Any] = {"layer_scale_init_value": 0.0, "patch_size": 2, "hidden_act": "gelu_new"}

CASES = [
    Case("convnext", "convnext", lambda: ConvNextModel(ConvNextConfig(**SCALED)), processor(), "mean"),
    Case("task_head", "convnext", lambda: ConvNextForImageClassification(ConvNextConfig(**SCALED)), processor(40, 48),
         "mean"),
    Case("no_scale", "convnext",
         lambda: ConvNextModel(ConvNextConfig(**SIZES, **UNSCALED)),
         processor(33, 27), "mean"),
    Case("v2", "convnext", lambda: ConvNextV2Model(ConvNextV2Config(**SIZES)), processor(40, 48), "mean"),
    Case("v2_task_head", "convnext", lambda: ConvNextV2ForImageClassification(ConvNextV2Config(**SIZES)), processor(),
         "mean"),
]  # fmt: skip
