"""SigLIP and SigLIP 2: an image tower with an attention-pooling head, a text tower, one space.

SigLIP 2 of the kind NaFlex takes images in their own shapes, up to a number of patches; they are packed like texts, and
every one has the positions resampled to its own grid.

The vectors are ``image_embeds`` and ``text_embeds`` before their normalisation. Texts are padded to the longest length,
as in training: the tower sees the padding, and the last token is the vector.

Source: Zhai et al., *SigLIP* (2023), https://arxiv.org/abs/2303.15343; Tschannen et al., *SigLIP 2* (2025),
https://arxiv.org/abs/2502.14786. Weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/siglip/modeling_siglip.py (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from coldpress.models import towers
from coldpress.models.base import WeightMap
from coldpress.models.names import activation_named
from coldpress.models.text_tower import TextConfig, TextNames
from coldpress.models.towers import Config
from coldpress.models.vision import VisionConfig, VisionNames, square
from coldpress.types import Modality, Spec

MODEL_TYPES = frozenset(
    f"{name}{tower}" for name in ("siglip", "siglip2") for tower in ("", "_vision_model", "_text_model")
)
BOTH_TOWERS = frozenset({"siglip", "siglip2"})
PREFIXES: Mapping[Modality, tuple[str, ...]] = {"image": ("vision_model.",), "text": ("text_model.",)}
POSITIONS = 64
"""Of the text tower, where ``config.json`` leaves them out."""

IGNORED: Mapping[Modality, tuple[str, ...]] = {
    "image": (r"text_model\.", r"logit_(scale|bias)", r"embeddings\.position_ids", r"classifier\."),
    "text": (r"vision_model\.", r"logit_(scale|bias)", r"embeddings\.position_ids"),
}
PADDED = True
"""Every text has as many tokens as there are positions."""

_SIZES: Mapping[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 16, "vocab_size": 32000, "max_position_embeddings": 64,
}  # fmt: skip
"""What transformers leaves out of a ``config.json`` that has these values."""

_VISION_NAMES = VisionNames(
    blocks=towers.BLOCKS,
    patch="embeddings.patch_embedding",
    positions="embeddings.position_embedding.weight",
    norm="post_layernorm",
    probe="head.probe",
    pool={
        "pool.qkv": ["head.attention.in_proj_"],
        "pool.out": ["head.attention.out_proj"],
        "pool.norm": ["head.layernorm"],
        "pool.mlp.up": ["head.mlp.fc1"],
        "pool.mlp.down": ["head.mlp.fc2"],
    },
    flat=True,
)
_TEXT_NAMES = TextNames(
    blocks=towers.BLOCKS,
    words="embeddings.token_embedding.weight",
    positions="embeddings.position_embedding.weight",
    norm="final_layer_norm",
    projection="head.weight",
    bias="head.bias",
)

build = towers.build
describe = towers.describe
meet = towers.meet


def read_config(config: Mapping[str, Any], modality: Modality) -> Config:
    """Read one tower of a Hugging Face ``config.json``."""
    section = config.get(f"{'vision' if modality == 'image' else 'text'}_config", {})
    values = {**_SIZES, **(section if config["model_type"] in BOTH_TOWERS else config)}
    width, depth, heads = values["hidden_size"], values["num_hidden_layers"], values["num_attention_heads"]
    activation = activation_named(values.get("hidden_act", "gelu_pytorch_tanh"))
    eps = values.get("layer_norm_eps", 1e-6)
    if modality == "image":
        flexible = config["model_type"].startswith("siglip2")
        if flexible:
            values["image_size"] = math.isqrt(values.get("num_patches", 256)) * values["patch_size"]
        image_size, patch = square(values)
        return VisionConfig(
            width=width,
            depth=depth,
            heads=heads,
            hidden=values["intermediate_size"],
            patch=patch,
            image_size=image_size,
            special=0,
            positioned=0,
            positions="flexible" if flexible else "learned",
            activation=activation,
            eps=eps,
            pooling="attention" if values.get("vision_use_head", True) else "mean",
        )
    return TextConfig(
        vocabulary=values["vocab_size"],
        positions=values["max_position_embeddings"],
        width=width,
        depth=depth,
        heads=heads,
        hidden=values["intermediate_size"],
        activation=activation,
        eps=eps,
        causal=False,
        projection=values.get("projection_size") or width,
    )


def lowers(config: Mapping[str, Any]) -> bool:
    """Whether texts are lowered, as the tokenizer of transformers does for this type, whatever its files say."""
    return str(config["model_type"]).startswith("siglip2")


def adapt(tensors: dict[str, torch.Tensor], config: Config, spec: Spec) -> dict[str, torch.Tensor]:
    """Bring the checkpoint into our layout."""
    return towers.adapt_either(tensors, config, spec, _VISION_NAMES, _TEXT_NAMES)


def weight_map(config: Config) -> WeightMap:
    """Where each parameter comes from, after `adapt`."""
    pools = isinstance(config, TextConfig) or config.pooling == "attention"
    return towers.map_either(config, _VISION_NAMES if pools else replace(_VISION_NAMES, probe="", pool={}), _TEXT_NAMES)
