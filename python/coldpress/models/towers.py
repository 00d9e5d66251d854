"""What families with an image tower and a text tower share: the kind of a configuration says which of them is meant."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from coldpress.models.base import Backbone, WeightMap
from coldpress.models.tensor_names import BlockNames
from coldpress.models.text_tower import TextConfig, TextNames, TextTower, adapt_text, map_text
from coldpress.models.vision import VisionConfig, VisionNames, adapt_tower, build_tower, map_tower
from coldpress.types import Spec

Config = VisionConfig | TextConfig

BLOCKS = BlockNames(
    block="encoder.layers.{}",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.out_proj",
    attention_norm="layer_norm1",
    mlp_norm="layer_norm2",
    up="mlp.fc1",
    down="mlp.fc2",
)
"""What transformers calls the tensors of a block in either tower."""


def build(config: Config, spec: Spec) -> Backbone:
    """Make the backbone, its weights still empty."""
    return TextTower(config) if isinstance(config, TextConfig) else build_tower(config, spec)


def describe(config: Config) -> dict[str, Any]:
    """What of the configuration belongs into the fingerprint."""
    return asdict(config)


def meet(image: Config, text: Config) -> bool:
    """Whether both towers end in one space: at vectors of one width behind a last map, or SigLIP's head for images."""
    assert isinstance(image, VisionConfig)
    assert isinstance(text, TextConfig)
    ends = image.width if image.pooling == "attention" else image.projection
    return ends == text.projection > 0


def adapt_either(
    tensors: dict[str, torch.Tensor], config: Config, spec: Spec, vision: VisionNames, text: TextNames
) -> dict[str, torch.Tensor]:
    """Bring the checkpoint of one tower into our layout."""
    if isinstance(config, TextConfig):
        return adapt_text(tensors, config, text)
    return adapt_tower(tensors, config, spec, vision)


def map_either(config: Config, vision: VisionNames, text: TextNames) -> WeightMap:
    """Where each parameter of one tower comes from, after :func:`adapt_either`."""
    return map_text(config, text) if isinstance(config, TextConfig) else map_tower(config, vision)
