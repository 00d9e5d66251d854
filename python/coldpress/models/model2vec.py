"""model2vec, and the static embeddings of sentence-transformers: a text is the mean of its tokens' rows of a table.

Nothing is multiplied, and splitting texts into tokens takes nearly all of the time: no precision would be faster than
fp32, which is the only one.

A directory with model2vec's ``config.json`` gives what model2vec gives: a text is cut to so many characters as its
longest number of tokens takes at their median length, then to those tokens, of which unknown ones are left out. Without
one, where ``modules.json`` has a StaticEmbedding, it gives what sentence-transformers gives: all of a text counts,
unknown tokens too. The vector of a text without tokens is zero in both.

Source: https://github.com/MinishLab/model2vec/blob/v0.10.0/model2vec/model.py (MIT);
https://github.com/UKPLab/sentence-transformers/blob/v6.2.0/sentence_transformers/sentence_transformer/modules/static_embedding.py
(Apache-2.0).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.models.base import Backbone, WeightMap, pool_tokens
from coldpress.models.tokenizers import open_tokenizer
from coldpress.types import BareTextSpec, Batch, Output, Spec, TextBatch, TextSpec

MODEL_TYPES = frozenset({"model2vec", "StaticEmbedding"})
PREFIXES = ()
IGNORED = ()
POOLING: ops.Pooling = "mean"
_MOST_TOKENS = 512


@dataclass(frozen=True)
class StaticConfig:
    """Sizes of a table of vectors, `table` being its name in the checkpoint.

    Where it is `mapped`, several tokens share one of the `rows`; where it is `weighted`, every token has a factor.
    """

    vocabulary: int
    table: str
    normalize: bool
    rows: int = 0
    width: int = 0
    mapped: bool = False
    weighted: bool = False


class StaticEmbedding(Backbone):
    """The table."""

    modality = "text"
    dense = "tokens"
    depth = 0
    pooling = POOLING
    padded = False

    def __init__(self, config: StaticConfig) -> None:
        super().__init__()
        self.width, self.normalize = config.width, config.normalize
        self.table = _empty(config.rows, config.width)
        self.mapping = _empty(config.vocabulary, dtype=torch.int32) if config.mapped else None
        self.weights = _empty(config.vocabulary) if config.weighted else None

    def forward(self, batch: Batch, outputs: Sequence[Output]) -> dict[str, torch.Tensor]:
        """Return each output as (B, D) float32."""
        assert isinstance(batch, TextBatch)
        tokens = F.embedding(batch.ids if self.mapping is None else self.mapping[batch.ids], self.table)
        if self.weights is not None:
            tokens = tokens * self.weights[batch.ids].unsqueeze(1)
        filled, bounds = _filled(tokens, batch.cu_seqlens)
        return {o.name: tokens if o.dense else pool_tokens(filled, bounds, o, self) for o in outputs}


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, dtype=dtype), requires_grad=False)


def _filled(tokens: torch.Tensor, cu_seqlens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give each text without tokens one of zeros, for `ops.pool` refuses a mean of nothing."""
    lengths = cu_seqlens.diff()
    if bool((lengths > 0).all()):
        return tokens, cu_seqlens
    bounds = F.pad(lengths.clamp(min=1).cumsum(0), (1, 0))
    moved = (bounds - cu_seqlens)[:-1].repeat_interleave(lengths)
    filled = tokens.new_zeros(int(bounds[-1]), tokens.shape[1])
    filled[moved + torch.arange(len(tokens), device=moved.device)] = tokens
    return filled, bounds.int()


def read_text(config: Mapping[str, Any], spec: TextSpec, directory: Path) -> tuple[dict[str, Any], BareTextSpec]:
    """Add the size of the vocabulary to the configuration, and say how a text is cut."""
    tokenizer = open_tokenizer(directory)
    tokens = tokenizer.get_vocab()
    counted = {**config, "vocab_size": 1 + max(tokens.values(), default=-1)}
    if config["model_type"] != "model2vec":
        cut = (tokenizer.truncation or {}).get("max_length")
        return counted, BareTextSpec(spec.tokenizer, cut, spec.prompt)
    longest = config.get("max_length", _MOST_TOKENS)
    chars = None if longest is None else longest * int(np.median([len(token) for token in tokens]))
    return counted, BareTextSpec(spec.tokenizer, longest, spec.prompt, max_chars=chars, dropped=_unknown(tokenizer))


def _unknown(tokenizer: Tokenizer) -> int | None:
    """Return the token of what is not in the vocabulary."""
    if hasattr(tokenizer.model, "unk_token"):
        token = tokenizer.model.unk_token
        return None if token is None else tokenizer.token_to_id(token)
    found: int | None = json.loads(tokenizer.to_str())["model"].get("unk_id")
    return found


def read_config(config: Mapping[str, Any], _pooling: ops.Pooling, *, normalize: bool) -> StaticConfig:
    """Read ``config.json``; the sizes of the table are in the tensors alone, see `sized`."""
    if config["model_type"] == "model2vec":
        return StaticConfig(config["vocab_size"], "embeddings", normalize=bool(config.get("normalize", False)))
    return StaticConfig(config["vocab_size"], "embedding.weight", normalize=normalize)


def sized(config: StaticConfig, tensors: Mapping[str, torch.Tensor]) -> StaticConfig:
    """Take what only the tensors say: how wide the table is, and whether tokens share its rows or have factors."""
    table, mapping = tensors.get(config.table), tensors.get("mapping")
    config = replace(config, rows=config.vocabulary, mapped=mapping is not None, weighted="weights" in tensors)
    if table is None or table.dim() != 2:
        return config
    if mapping is None:
        return replace(config, width=table.shape[1])
    if bool((mapping < 0).any() or (mapping >= len(table)).any()):
        raise ModelError(f"mapping goes from {mapping.min()} to {mapping.max()}, expected rows 0 to {len(table) - 1}")
    return replace(config, rows=len(table), width=table.shape[1])


def build(config: StaticConfig, _spec: Spec) -> StaticEmbedding:
    """Make the backbone, its weights still empty."""
    return StaticEmbedding(config)


def describe(config: StaticConfig) -> dict[str, Any]:
    """What of the configuration belongs into the fingerprint."""
    return asdict(config)


def weight_map(config: StaticConfig) -> WeightMap:
    """Where each parameter comes from in a checkpoint."""
    beside = {"mapping": config.mapped, "weights": config.weighted}
    return {"table": [config.table]} | {name: [name] for name, there in beside.items() if there}
