"""ModernBERT: rotary positions, every third block sees the whole text and the others 64 tokens to each side, GeGLU.

Source: Warner et al., *Smarter, Better, Faster, Longer* (2024), https://arxiv.org/abs/2412.13663; weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/modernbert/modeling_modernbert.py
(Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.models import encoder
from coldpress.models.base import WeightMap
from coldpress.models.encoder import EncoderConfig, EncoderNames, map_encoder
from coldpress.models.names import activation_named, required
from coldpress.models.tensor_names import BlockNames, adapt_blocks, fused_gate_shapes
from coldpress.models.weights import expect_shapes
from coldpress.types import Spec

MODEL_TYPES = frozenset({"modernbert"})
PREFIXES = ("model.",)
IGNORED = (r"head\.", r"decoder\.", r"classifier\.", r"drop\.")
_BIASES = {
    "norm_bias": ("attn_norm", "mlp_norm", "embeddings.norm", "final_norm"),
    "attention_bias": ("attn.Wqkv", "attn.Wo"),
    "mlp_bias": ("mlp.Wi", "mlp.Wo"),
}
_GLOBAL, _LOCAL = "full_attention", "sliding_attention"

build = encoder.build
describe = encoder.describe


def base() -> EncoderConfig:
    """ModernBERT-base."""
    return _preset(768, 22, 12, 1152)


def large() -> EncoderConfig:
    """ModernBERT-large."""
    return _preset(1024, 28, 16, 2624)


def _preset(width: int, depth: int, heads: int, hidden: int) -> EncoderConfig:
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
    others = {"vocab_size": 50368, "max_position_embeddings": 8192, "intermediate_size": hidden}
    return read_config(sizes | others, "mean", normalize=False)


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> EncoderConfig:
    """Read a Hugging Face ``config.json``, before or after version 5 of transformers."""
    depth = required(config, "num_hidden_layers")
    every = config.get("global_attn_every_n_layers", 3)
    kinds = config.get("layer_types") or [_LOCAL if i % every else _GLOBAL for i in range(depth)]
    if len(kinds) != depth or not set(kinds) <= {_GLOBAL, _LOCAL}:
        raise ModelError(f"config.json: layer_types {kinds}, expected {depth} times {_GLOBAL} or {_LOCAL}")
    bases = {_GLOBAL: _base(config, _GLOBAL, "global_rope_theta", 160_000.0)}
    bases[_LOCAL] = _base(config, _LOCAL, "local_rope_theta", 10_000.0)
    side = config.get("local_attention", 128) // 2
    return EncoderConfig(
        vocabulary=required(config, "vocab_size"),
        max_tokens=required(config, "max_position_embeddings"),
        width=required(config, "hidden_size"),
        depth=depth,
        heads=required(config, "num_attention_heads"),
        hidden=required(config, "intermediate_size"),
        rotations=tuple(bases[kind] for kind in kinds),
        windows=tuple(-1 if kind == _GLOBAL else side for kind in kinds),
        activation=activation_named(config.get("hidden_activation", "gelu")),
        gated=True,
        pre_norm=True,
        eps=config.get("norm_eps", 1e-5),
        biasless=tuple(part for key, parts in _BIASES.items() if not config.get(key, False) for part in parts),
        pooling=pooling,
        normalize=normalize,
    )


def _base(config: Mapping[str, Any], kind: str, old: str, default: float) -> float:
    """The base of the rotation in one kind of block."""
    parameters = (config.get("rope_parameters") or {}).get(kind) or {}
    scaling = config.get("rope_scaling") or {}
    asked = scaling.get("rope_type", scaling.get("type", parameters.get("rope_type", "default")))
    if asked != "default":
        raise ModelError(f"config.json: rope_type {asked!r}, expected 'default'")
    base = parameters.get("rope_theta", config.get(old))
    return float(default if base is None else base)


def _names(biasless: Sequence[str]) -> EncoderNames:
    blocks = BlockNames(
        block="layers.{}",
        qkv=("attn.Wqkv",),
        out="attn.Wo",
        attention_norm="attn_norm",
        mlp_norm="mlp_norm",
        gate_up="mlp.Wi",
        down="mlp.Wo",
        biasless=tuple(biasless),
    )
    return EncoderNames(
        blocks, words="embeddings.tok_embeddings.weight", stem_norm="embeddings.norm", norm="final_norm"
    )


def adapt(tensors: dict[str, torch.Tensor], config: EncoderConfig, spec: Spec) -> dict[str, torch.Tensor]:
    """Split the fused gates."""
    blocks, out = _names(config.biasless).blocks, dict(tensors)
    expect_shapes(out, fused_gate_shapes(blocks, config.depth, config.width, config.hidden))
    adapt_blocks(out, blocks, config.depth)
    return out


def weight_map(config: EncoderConfig) -> WeightMap:
    """Where each parameter comes from in a Hugging Face checkpoint, after `adapt`."""
    return map_encoder(config, _names(config.biasless))
