"""BERT and everything of its shape: MiniLM, E5, BGE, GTE.

Post-norm encoder with learned positions.

Source: Devlin et al., *BERT* (2018), https://arxiv.org/abs/1810.04805; weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.models import encoder
from coldpress.models.base import WeightMap
from coldpress.models.encoder import EncoderConfig, EncoderNames, map_encoder
from coldpress.models.names import activation_named, required
from coldpress.models.tensor_names import BlockNames

MODEL_TYPES = frozenset({"bert"})
PREFIXES = ("bert.", "model.")
IGNORED = (
    r"pooler\.", r"cls\.", r"classifier\.", r"qa_outputs\.", r"lm_head\.", r"embeddings\.position_ids", r"dropout\.",
)  # fmt: skip
BLOCKS = BlockNames(
    block="encoder.layer.{}",
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    mlp_norm="output.LayerNorm",
)
NAMES = EncoderNames(
    BLOCKS,
    words="embeddings.word_embeddings.weight",
    stem_norm="embeddings.LayerNorm",
    positions="embeddings.position_embeddings.weight",
    token_types="embeddings.token_type_embeddings.weight",
)

build = encoder.build
describe = encoder.describe


def minilm_l6() -> EncoderConfig:
    """all-MiniLM-L6-v2."""
    return EncoderConfig(30522, 512, 384, 6, 12, 1536, positions=512, token_types=2, normalize=True)


def base() -> EncoderConfig:
    """BERT-base and the E5, BGE and GTE models of that size."""
    return EncoderConfig(30522, 512, 768, 12, 12, 3072, positions=512, token_types=2)


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> EncoderConfig:
    """Read a Hugging Face ``config.json``."""
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelError(
            f"config.json: position_embedding_type {config['position_embedding_type']!r}, expected 'absolute'"
        )
    positions = required(config, "max_position_embeddings")
    return EncoderConfig(
        vocabulary=required(config, "vocab_size"),
        max_tokens=positions,
        positions=positions,
        token_types=config.get("type_vocab_size", 2),
        width=required(config, "hidden_size"),
        depth=required(config, "num_hidden_layers"),
        heads=required(config, "num_attention_heads"),
        hidden=required(config, "intermediate_size"),
        activation=activation_named(config.get("hidden_act", "gelu")),
        eps=config.get("layer_norm_eps", 1e-12),
        pooling=pooling,
        normalize=normalize,
    )


def weight_map(config: EncoderConfig) -> WeightMap:
    """Where each parameter comes from in a Hugging Face checkpoint."""
    return map_encoder(config, NAMES)
