"""DINOv3: tiny cases for the conformance suite."""

from __future__ import annotations

from typing import Any

from conformance import Case
from test_vit import PLAIN, processor
from torch import nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

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
