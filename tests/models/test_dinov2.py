"""DINOv2: tiny cases for the conformance suite."""

from __future__ import annotations

from conformance import Case
from test_vit import SIZES, processor
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

DINO = SIZES | {"mlp_ratio": 2}

CASES = [
    Case("dinov2", "dinov2", lambda: Dinov2Model(Dinov2Config(**DINO)), processor(), "cls", prefix=1),
    Case("dinov2_wide", "dinov2", lambda: Dinov2Model(Dinov2Config(**DINO)), processor(24, 40), "cls", prefix=1),
    Case("dinov2_small", "dinov2", lambda: Dinov2Model(Dinov2Config(**DINO)), processor(16, 16), "cls", prefix=1),
    Case("dinov2_rest", "dinov2", lambda: Dinov2Model(Dinov2Config(**DINO)), processor(30, 45), "cls", prefix=1),
    Case("swiglu", "dinov2", lambda: Dinov2Model(Dinov2Config(**DINO, use_swiglu_ffn=True)), processor(), "cls",
         prefix=1),
    Case("registers", "dinov2",
         lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**DINO, num_register_tokens=3)), processor(), "cls",
         prefix=4),
    Case("registers_wide", "dinov2", lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**DINO)),
         processor(24, 40), "cls", prefix=5),
    Case("registers_small", "dinov2", lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**DINO)),
         processor(16, 16), "cls", prefix=5),
]  # fmt: skip
