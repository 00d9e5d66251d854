"""ELECTRA: BERT, whose embeddings may be narrower than its blocks.

Source: Clark et al., *ELECTRA* (2020), https://arxiv.org/abs/2003.10555; weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/electra/modeling_electra.py
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

MODEL_TYPES = frozenset({"electra"})
PREFIXES = ("electra.",)
IGNORED = (*bert.IGNORED, r"discriminator_predictions\.", r"generator_(lm_head|predictions)\.")
_NAMES = replace(bert.NAMES, widen="embeddings_project")

build = encoder.build
describe = encoder.describe


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> EncoderConfig:
    """Read a Hugging Face ``config.json``."""
    read = bert.read_config(config, pooling, normalize=normalize)
    narrow = int(config.get("embedding_size", 128))
    return replace(read, narrow=narrow if narrow != read.width else 0)


def weight_map(config: EncoderConfig) -> WeightMap:
    """Where each parameter comes from in a Hugging Face checkpoint."""
    return map_encoder(config, _NAMES)
