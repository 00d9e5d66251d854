"""MPNet: RoBERTa's positions, and a bias by distance on the scores of every block.

Source: Song et al., *MPNet* (2020), https://arxiv.org/abs/2004.09297; weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/mpnet/modeling_mpnet.py (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.models import bert, encoder, roberta
from coldpress.models.base import WeightMap
from coldpress.models.encoder import EncoderConfig, map_encoder

MODEL_TYPES = frozenset({"mpnet"})
PREFIXES = ("mpnet.", "model.")
IGNORED = bert.IGNORED
_BUCKETS = 32
_NAMES = replace(
    bert.NAMES,
    token_types="",
    biases="encoder.relative_attention_bias.weight",
    blocks=replace(
        bert.BLOCKS,
        qkv=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        out="attention.attn.o",
        attention_norm="attention.LayerNorm",
    ),
)

build = encoder.build
describe = encoder.describe
adapt = roberta.adapt


def base() -> EncoderConfig:
    """all-mpnet-base-v2."""
    return EncoderConfig(
        30527, 512, 768, 12, 12, 3072, positions=513, padding=1, buckets=_BUCKETS, eps=1e-5, normalize=True
    )


def longest_text(config: Mapping[str, Any]) -> int:
    """Tokens that have a position of their own."""
    return roberta.longest_text(_with_padding(config))


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> EncoderConfig:
    """Read a Hugging Face ``config.json``."""
    if (buckets := config.get("relative_attention_num_buckets", _BUCKETS)) != _BUCKETS:
        raise ModelError(f"config.json: relative_attention_num_buckets {buckets}, expected {_BUCKETS}")
    read = roberta.read_config(_with_padding(config), pooling, normalize=normalize)
    return replace(read, token_types=0, buckets=_BUCKETS)


def _with_padding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Upstream counts positions from a padding token of 1, whatever its configuration says."""
    return {**config, "pad_token_id": 1}


def weight_map(config: EncoderConfig) -> WeightMap:
    """Where each parameter comes from in a Hugging Face checkpoint."""
    return map_encoder(config, _NAMES)
