"""ConvNeXt: tiny cases for the conformance suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conformance import Case, equal, every_output, load_ready, write_files
from test_vit import processor
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextModel,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
    ConvNextV2Model,
)

from coldpress.models import convnext
from coldpress.types import ImageBatch

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


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("case", CASES[:1] + CASES[3:4], ids=lambda case: case.name)
def test_large_maps_in_parts_give_the_same_bits(
    case: Case, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.build().save_pretrained(tmp_path)
    write_files(tmp_path, processor(112, 116))
    backbone, outputs = load_ready(tmp_path, precision).backbone, every_output(3, tokens=False)
    pixels = torch.randint(0, 256, (3, 112, 116, 3), dtype=torch.uint8)
    whole = backbone(ImageBatch(pixels), outputs)
    assert convnext.ALONE <= 28 * 29
    assert equal(backbone(ImageBatch(pixels[1:2]), outputs), {name: rows[1:2] for name, rows in whole.items()})
    monkeypatch.setattr(convnext, "ALONE", 10**9)
    assert equal(backbone(ImageBatch(pixels), outputs), whole)
