"""DINOv3: patches know their place by rotation; register tokens, layer scale, SwiGLU in the largest ones.

The vector is the class token after the final normalisation. Images of any size have the same weights: the rotation
goes with the place of a patch relative to the image.

The upstream processor has no Pillow variant: it rescales first and so resizes floats, without rounding. Ours rounds to
bytes after each of the two passes, as Pillow does. On 311 photos the pixels are at most 1.0 of 255 steps apart, 0.27 on
average; rounding upstream's passes as well leaves 0.4 % of them different.

Source: Siméoni et al., *DINOv3* (2025), https://arxiv.org/abs/2508.10104. Weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/dinov3_vit/modeling_dinov3_vit.py
(Apache-2.0; the published weights have a licence of their own).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.models.base import WeightMap
from coldpress.models.names import activation_named, required
from coldpress.models.tensor_names import BlockNames
from coldpress.models.vision import VisionConfig, VisionNames, adapt_tower, build_tower, map_tower, square
from coldpress.types import Spec

MODEL_TYPES = frozenset({"dinov3_vit"})
PREFIXES = ("model.",)
IGNORED = (r"embeddings\.mask_token", r"classifier\.")
_BIASES = {
    "query_bias": ("attention.q_proj",),
    "key_bias": ("attention.k_proj",),
    "value_bias": ("attention.v_proj",),
    "proj_bias": ("attention.o_proj",),
    "mlp_bias": ("mlp.up_proj", "mlp.gate_proj", "mlp.down_proj"),
}

build = build_tower


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> VisionConfig:
    """Read a Hugging Face ``config.json``."""
    gated, activation = bool(config.get("use_gated_mlp", False)), activation_named(config.get("hidden_act", "gelu"))
    if gated and activation != "silu":
        raise ModelError(f"config.json: hidden_act {config.get('hidden_act')!r}, expected silu in a gated block")
    image_size, patch = square(config)
    return VisionConfig(
        width=required(config, "hidden_size"),
        depth=required(config, "num_hidden_layers"),
        heads=required(config, "num_attention_heads"),
        hidden=required(config, "intermediate_size"),
        image_size=image_size,
        patch=patch,
        registers=config.get("num_register_tokens", 0),
        positioned=0,
        positions=float(config.get("rope_theta", 100.0)),
        activation=activation,
        eps=config.get("layer_norm_eps", 1e-5),
        gated=gated,
        layer_scale=True,
        biasless=tuple(
            part for key, parts in _BIASES.items() if not config.get(key, key != "key_bias") for part in parts
        ),
    )


def describe(config: VisionConfig) -> dict[str, Any]:
    """What of the configuration belongs into the fingerprint."""
    return asdict(config)


def _names(config: VisionConfig) -> VisionNames:
    blocks = BlockNames(
        block="layer.{}",
        qkv=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        out="attention.o_proj",
        attention_norm="norm1",
        mlp_norm="norm2",
        up="mlp.up_proj",
        gate="mlp.gate_proj" if config.gated else "",
        down="mlp.down_proj",
        scales=("layer_scale1.lambda1", "layer_scale2.lambda1"),
        biasless=config.biasless,
    )
    return VisionNames(
        blocks=blocks,
        patch="embeddings.patch_embeddings",
        special=("embeddings.cls_token",),
        registers="embeddings.register_tokens",
        norm="norm",
    )


def adapt(tensors: dict[str, torch.Tensor], config: VisionConfig, spec: Spec) -> dict[str, torch.Tensor]:
    """Bring the checkpoint into our layout."""
    return adapt_tower(tensors, config, spec, _names(config))


def weight_map(config: VisionConfig) -> WeightMap:
    """Where each parameter comes from, after `adapt`."""
    return map_tower(config, _names(config))
