"""RoBERTa, XLM-RoBERTa (multilingual E5, BGE-M3, Arctic Embed L v2), CamemBERT.

BERT whose positions begin behind the id of the padding token; the rows before it stay unused.

Source: Liu et al., *RoBERTa* (2019), https://arxiv.org/abs/1907.11692; Conneau et al., *Unsupervised Cross-lingual
Representation Learning at Scale* (2019), https://arxiv.org/abs/1911.02116; weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/roberta/modeling_roberta.py
(Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from coldpress import ops
from coldpress.models import bert, encoder
from coldpress.models.encoder import EncoderConfig
from coldpress.models.names import required
from coldpress.models.weights import expect_shapes
from coldpress.types import Spec

MODEL_TYPES = frozenset({"roberta", "xlm-roberta", "camembert"})
PREFIXES = ("roberta.", "model.")
IGNORED = bert.IGNORED

build = encoder.build
describe = encoder.describe
weight_map = bert.weight_map


def base() -> EncoderConfig:
    """RoBERTa-base."""
    return EncoderConfig(50265, 512, 768, 12, 12, 3072, positions=513, token_types=1, padding=1, eps=1e-5)


def multilingual_e5_small() -> EncoderConfig:
    """Multilingual E5 of 384 values."""
    return EncoderConfig(
        250037, 512, 384, 12, 12, 1536, positions=513, token_types=2, padding=1, eps=1e-12, normalize=True
    )


def longest_text(config: Mapping[str, Any]) -> int:
    """Tokens that have a position of their own."""
    return int(required(config, "max_position_embeddings") - _padding(config) - 1)


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> EncoderConfig:
    """Read a Hugging Face ``config.json``."""
    longest = longest_text(config)
    read = bert.read_config(config, pooling, normalize=normalize)
    return replace(read, max_tokens=longest, positions=longest + 1, padding=_padding(config))


def _padding(config: Mapping[str, Any]) -> int:
    padding = config.get("pad_token_id")
    return 1 if padding is None else int(padding)


def adapt(tensors: dict[str, torch.Tensor], config: EncoderConfig, spec: Spec) -> dict[str, torch.Tensor]:
    """Drop the positions in front of the padding token's."""
    name, padding = bert.NAMES.positions, config.padding or 0
    expect_shapes(tensors, {name: (config.positions + padding, config.width)})
    return {n: t[padding:] if n == name else t for n, t in tensors.items()}
