"""DINOv2, with and without registers, with SwiGLU in the giant one.

The vector is the class token after the final normalisation.

Source: Oquab et al., *DINOv2* (2023), https://arxiv.org/abs/2304.07193; Darcet et al., *Registers* (2023),
https://arxiv.org/abs/2309.16588. Weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/dinov2/modeling_dinov2.py (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from coldpress import ops
from coldpress.models.base import WeightMap
from coldpress.models.names import activation_named, required
from coldpress.models.tensor_names import BlockNames
from coldpress.models.vision import VisionConfig, VisionNames, adapt_tower, build_tower, map_tower, square
from coldpress.types import Spec

MODEL_TYPES = frozenset({"dinov2", "dinov2_with_registers"})
PREFIXES = ("dinov2.", "dinov2_with_registers.")
IGNORED = (r"classifier\.", r"embeddings\.mask_token")
_QKV = tuple(f"attention.attention.{part}" for part in ("query", "key", "value"))

build = build_tower


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> VisionConfig:
    """Read a Hugging Face ``config.json``."""
    width, gated = required(config, "hidden_size"), bool(config.get("use_swiglu_ffn", False))
    image_size, patch = square(config)
    hidden = int(width * config.get("mlp_ratio", 4))
    registers = config["model_type"] == "dinov2_with_registers"
    return VisionConfig(
        width=width,
        depth=required(config, "num_hidden_layers"),
        heads=required(config, "num_attention_heads"),
        hidden=(int(hidden * 2 / 3) + 7) // 8 * 8 if gated else hidden,
        image_size=image_size,
        patch=patch,
        registers=config.get("num_register_tokens", 4) if registers else 0,
        activation="silu" if gated else activation_named(config.get("hidden_act", "gelu")),
        eps=config.get("layer_norm_eps", 1e-6),
        gated=gated,
        layer_scale=True,
        antialias=registers,
        biasless=() if config.get("qkv_bias", True) else _QKV,
    )


def describe(config: VisionConfig) -> dict[str, Any]:
    """What of the configuration belongs into the fingerprint."""
    return asdict(config)


def _names(config: VisionConfig) -> VisionNames:
    blocks = BlockNames(
        block="encoder.layer.{}",
        qkv=_QKV,
        out="attention.output.dense",
        attention_norm="norm1",
        mlp_norm="norm2",
        up="" if config.gated else "mlp.fc1",
        gate_up="mlp.weights_in" if config.gated else "",
        down="mlp.weights_out" if config.gated else "mlp.fc2",
        scales=("layer_scale1.lambda1", "layer_scale2.lambda1"),
        biasless=config.biasless,
    )
    return VisionNames(
        blocks=blocks,
        patch="embeddings.patch_embeddings.projection",
        special=("embeddings.cls_token",),
        registers="embeddings.register_tokens" if config.registers else "",
        positions="embeddings.position_embeddings",
        norm="layernorm",
    )


def adapt(tensors: dict[str, torch.Tensor], config: VisionConfig, spec: Spec) -> dict[str, torch.Tensor]:
    """Bring the checkpoint into our layout."""
    return adapt_tower(tensors, config, spec, _names(config))


def weight_map(config: VisionConfig) -> WeightMap:
    """Where each parameter comes from, after `adapt`."""
    return map_tower(config, _names(config))
