"""ALBERT: narrow embeddings, and blocks that share their weights.

Source: Lan et al., *ALBERT* (2019), https://arxiv.org/abs/1909.11942; weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/albert/modeling_albert.py (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.models import bert, encoder
from coldpress.models.base import WeightMap
from coldpress.models.encoder import EncoderConfig, map_encoder
from coldpress.models.tensor_names import BlockNames

MODEL_TYPES = frozenset({"albert"})
PREFIXES = ("albert.",)
IGNORED = (*bert.IGNORED, r"predictions\.", r"sop_classifier\.")
_NAMES = replace(
    bert.NAMES,
    widen="encoder.embedding_hidden_mapping_in",
    blocks=BlockNames(
        block="encoder.albert_layer_groups.{}.albert_layers.0",
        qkv=("attention.query", "attention.key", "attention.value"),
        out="attention.dense",
        attention_norm="attention.LayerNorm",
        up="ffn",
        down="ffn_output",
        mlp_norm="full_layer_layer_norm",
    ),
)

build = encoder.build
describe = encoder.describe


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> EncoderConfig:
    """Read a Hugging Face ``config.json``."""
    if (inner := config.get("inner_group_num", 1)) != 1:
        raise ModelError(f"config.json: inner_group_num {inner}, expected 1")
    stated = {"hidden_act": "gelu_new", **config}
    read = bert.read_config(stated, pooling, normalize=normalize)
    count = int(config.get("num_hidden_groups", 1))
    groups = tuple(block * count // read.depth for block in range(read.depth))
    return replace(read, narrow=int(config.get("embedding_size", 128)), groups=groups)


def weight_map(config: EncoderConfig) -> WeightMap:
    """Where each parameter comes from in a Hugging Face checkpoint."""
    return map_encoder(config, _NAMES)
