"""DINOv3: tiny cases for the conformance suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from conformance import Case, write_files
from PIL import Image
from test_vit import PLAIN, processor
from torch import nn
from torch.nn import functional as F
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from coldpress.models.specs import read_image_spec
from coldpress.preprocess.image import ImagePreprocessor
from coldpress.types import FileRef

TINY: dict[str, Any] = PLAIN | {"num_register_tokens": 3}


def case(name: str, height: int = 32, width: int = 32, **changed: Any) -> Case:
    """A network with three registers; `base_model` of this class is its encoder alone."""
    return Case(
        name,
        "dinov3",
        lambda: DINOv3ViTModel(DINOv3ViTConfig(**TINY | changed)),
        processor(height, width),
        "cls",
        prefix=4,
        tower=_whole,
    )


def _whole(model: nn.Module) -> nn.Module:
    return model


CASES = [
    case("registers"),
    case("wide", 24, 40),
    case("large", 64, 64),
    case("panels", hidden_size=64, num_attention_heads=2),
    case("gated", use_gated_mlp=True, hidden_act="silu"),
    case("all_biases", key_bias=True),
    case("no_biases", query_bias=False, value_bias=False, proj_bias=False, mlp_bias=False),
    case("theta", rope_theta=10.0),
]

PUBLISHED = {
    "image_processor_type": "DINOv3ViTImageProcessorFast", "do_resize": True, "do_rescale": True, "do_normalize": True,
    "do_center_crop": None, "crop_size": None, "resample": 2, "rescale_factor": 1 / 255,
    "size": {"height": 224, "width": 224}, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip


def test_pixels_are_within_a_step_of_upstreams_floating_point_resize(shared: Path, tmp_path: Path) -> None:
    """Its processor has no Pillow variant: it resizes float images, which this is the torch call of."""
    write_files(tmp_path, {"preprocessor_config.json": PUBLISHED})
    spec = read_image_spec(tmp_path)
    assert (spec.resize, spec.crop, spec.resample) == (("exact", 224, 224), None, "bilinear")
    photos = sorted((shared / "imagenet_sample").rglob("*.[jJ][pP]*"))[::15]
    for photo, prepared in zip(photos, ImagePreprocessor(spec)([FileRef(str(p)) for p in photos]), strict=True):
        pixels = torch.from_numpy(np.array(Image.open(photo).convert("RGB"))).permute(2, 0, 1)[None].float()
        expected = F.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
        difference = np.abs(prepared.pixels - expected)
        assert difference.max() <= 1.01
        assert difference.mean() < 0.35
        assert (rounded_passes(pixels) != prepared.pixels).mean() < 0.01


def rounded_passes(pixels: torch.Tensor) -> np.ndarray:
    """What upstream's resize gives where each pass ends in bytes: nothing else sets it apart from Pillow's."""
    height, width = pixels.shape[2:]
    first = (224, width) if height - 224 > 2 * max(width - 224, 0) else (height, 224)
    for size in (first, (224, 224)):
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True).round()
    return pixels[0].permute(1, 2, 0).numpy()
