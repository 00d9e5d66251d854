"""DistilBERT: BERT of half the depth, without token types.

Source: Sanh et al., *DistilBERT* (2019), https://arxiv.org/abs/1910.01108; weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/distilbert/modeling_distilbert.py
(Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coldpress import ops
from coldpress.models import bert, encoder
from coldpress.models.base import WeightMap
from coldpress.models.encoder import EncoderConfig, map_encoder
from coldpress.models.names import required
from coldpress.models.tensor_names import BlockNames

MODEL_TYPES = frozenset({"distilbert"})
PREFIXES = ("distilbert.", "model.")
IGNORED = (*bert.IGNORED, r"pre_classifier\.", r"vocab_\w+\.")
_OURS = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
}
_NAMES = replace(
    bert.NAMES,
    token_types="",
    blocks=BlockNames(
        block="transformer.layer.{}",
        qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        out="attention.out_lin",
        attention_norm="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        mlp_norm="output_layer_norm",
    ),
)

build = encoder.build
describe = encoder.describe


def base() -> EncoderConfig:
    """DistilBERT-base."""
    return EncoderConfig(30522, 512, 768, 6, 12, 3072, positions=512)


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> EncoderConfig:
    """Read a Hugging Face ``config.json``."""
    named = {**config, **{ours: required(config, theirs) for ours, theirs in _OURS.items()}}
    named |= {"hidden_act": config.get("activation", "gelu"), "layer_norm_eps": 1e-12}
    return replace(bert.read_config(named, pooling, normalize=normalize), token_types=0)


def weight_map(config: EncoderConfig) -> WeightMap:
    """Where each parameter comes from in a Hugging Face checkpoint."""
    return map_encoder(config, _NAMES)
