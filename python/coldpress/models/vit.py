"""Plain vision transformers: ViT and DeiT; with timm's names also DeiT III, DINOv2, DINOv3, images of CLIP and SigLIP.

The vector is the class token after the final normalisation, or the mean of the patches or the output of an attention
pool where timm says so.

Source: Dosovitskiy et al. (2020), https://arxiv.org/abs/2010.11929; Touvron et al., *DeiT* (2020),
https://arxiv.org/abs/2012.12877. Weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/vit/modeling_vit.py (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from coldpress import ops
from coldpress.models import timm_vit
from coldpress.models.base import WeightMap
from coldpress.models.names import activation_named, required
from coldpress.models.tensor_names import BlockNames
from coldpress.models.vision import (
    VisionConfig,
    VisionNames,
    adapt_tower,
    build_tower,
    map_tower,
    square,
)
from coldpress.types import Spec

MODEL_TYPES = frozenset({"vit", "deit"})
ARCHITECTURES = timm_vit.ARCHITECTURES
PREFIXES = ("vit.", "deit.")
IGNORED = (r"pooler\.", r"classifier\.", r"cls_classifier\.", r"distillation_classifier\.", r"embeddings\.mask_token",
           *timm_vit.IGNORED)  # fmt: skip

QKV = tuple(f"attention.attention.{part}" for part in ("query", "key", "value"))
"""As DINOv2 calls them too."""

build = build_tower
pretrained_cfg = timm_vit.pretrained_cfg


def base16() -> VisionConfig:
    """ViT-B/16 at 224 pixels."""
    return VisionConfig(width=768, depth=12, heads=12, hidden=3072, patch=16, image_size=224)


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> VisionConfig:
    """Read a Hugging Face or timm ``config.json``."""
    if "architecture" in config:
        return timm_vit.read_timm_config(config)
    image_size, patch = square(config)
    special = 2 if config["model_type"] == "deit" else 1
    return VisionConfig(
        width=required(config, "hidden_size"),
        depth=required(config, "num_hidden_layers"),
        heads=required(config, "num_attention_heads"),
        hidden=required(config, "intermediate_size"),
        image_size=image_size,
        patch=patch,
        special=special,
        positioned=special,
        activation=activation_named(config.get("hidden_act", "gelu")),
        eps=config.get("layer_norm_eps", 1e-12),
        biasless=() if config.get("qkv_bias", True) else QKV,
    )


def describe(config: VisionConfig) -> dict[str, Any]:
    """What of the configuration belongs into the fingerprint."""
    return asdict(config)


def _names(config: VisionConfig) -> VisionNames:
    if config.layout:
        return timm_vit.timm_names(config)
    blocks = BlockNames(
        block="encoder.layer.{}",
        qkv=QKV,
        out="attention.output.dense",
        attention_norm="layernorm_before",
        mlp_norm="layernorm_after",
        up="intermediate.dense",
        down="output.dense",
        biasless=config.biasless,
    )
    return VisionNames(
        blocks=blocks,
        patch="embeddings.patch_embeddings.projection",
        special=("embeddings.cls_token", "embeddings.distillation_token")[: config.special],
        positions="embeddings.position_embeddings",
        norm="layernorm",
    )


def adapt(tensors: dict[str, torch.Tensor], config: VisionConfig, spec: Spec) -> dict[str, torch.Tensor]:
    """Bring the checkpoint into our layout."""
    return adapt_tower(timm_vit.fuse_biases(tensors, config), config, spec, _names(config))


def weight_map(config: VisionConfig) -> WeightMap:
    """Where each parameter comes from, after `adapt`."""
    return map_tower(config, _names(config))
