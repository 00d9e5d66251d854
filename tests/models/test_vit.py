"""ViT and DeiT: tiny cases for the conformance suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance import Case
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    DeiTModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

SIZES: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8,
}  # fmt: skip
PLAIN = SIZES | {"intermediate_size": 40}


def processor(height: int = 32, width: int = 32) -> dict[str, object]:
    """A ``preprocessor_config.json`` that resizes the short side and crops."""
    return {
        "preprocessor_config.json": {
            "do_resize": True, "size": {"shortest_edge": 40}, "do_center_crop": True, "resample": 3,
            "crop_size": {"height": height, "width": width}, "do_rescale": True, "rescale_factor": 1 / 255,
            "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        }
    }  # fmt: skip


RESAMPLED: Mapping[str, Any] = {"interpolate_pos_encoding": True}

PANELS: dict[str, Any] = PLAIN | {"hidden_size": 64, "num_attention_heads": 2}  # whole heads in panels: fused in int8

CASES = [
    Case("panels", "vit", lambda: ViTModel(ViTConfig(**PANELS)), processor(), "cls", prefix=1),
    Case("vit", "vit", lambda: ViTModel(ViTConfig(**PLAIN)), processor(), "cls", prefix=1),
    Case("no_qkv_bias", "vit", lambda: ViTModel(ViTConfig(**PLAIN, qkv_bias=False)), processor(), "cls", prefix=1),
    Case("gelu_tanh", "vit", lambda: ViTModel(ViTConfig(**PLAIN, hidden_act="gelu_pytorch_tanh")), processor(), "cls",
         prefix=1),
    Case("task_head", "vit", lambda: ViTForImageClassification(ViTConfig(**PLAIN)), processor(), "cls", prefix=1),
    Case("wide", "vit", lambda: ViTModel(ViTConfig(**PLAIN)), processor(24, 40), "cls", prefix=1, options=RESAMPLED),
    Case("deit", "vit", lambda: DeiTModel(DeiTConfig(**PLAIN)), processor(), "cls", prefix=2),
    Case("deit_wide", "vit", lambda: DeiTForImageClassification(DeiTConfig(**PLAIN)), processor(40, 24), "cls",
         prefix=2, options=RESAMPLED),
]  # fmt: skip
