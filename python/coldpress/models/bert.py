"""BERT and everything of its shape: MiniLM, E5, BGE, GTE, MPNet-free sentence encoders.

Post-norm encoder with learned positions, run without padding: linears see all tokens of a batch at once, only
attention sees where a text ends.

Source: Devlin et al., *BERT* (2018), https://arxiv.org/abs/1810.04805; weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.layers import LayerNorm, Mlp, SelfAttention
from coldpress.models.base import Backbone, WeightMap, pool_tokens, rows_wanted
from coldpress.models.names import activation_named, required
from coldpress.types import Batch, ImageSpec, Output, Spec, TextBatch

MODEL_TYPES = frozenset({"bert"})
PREFIXES = ("bert.", "model.")
IGNORED = (r"pooler\.", r"cls\.", r"classifier\.", r"qa_outputs\.", r"embeddings\.position_ids", r"dropout\.")


@dataclass(frozen=True)
class Config:
    """Sizes of the encoder and how its tokens become a vector."""

    vocabulary: int
    positions: int
    token_types: int
    width: int
    depth: int
    heads: int
    hidden: int
    activation: ops.Activation = "gelu"
    eps: float = 1e-12
    pooling: ops.Pooling = "mean"
    normalize: bool = False

    @classmethod
    def minilm_l6(cls) -> Config:
        """all-MiniLM-L6-v2."""
        return cls(30522, 512, 2, width=384, depth=6, heads=12, hidden=1536, normalize=True)

    @classmethod
    def base(cls) -> Config:
        """BERT-base and the E5, BGE and GTE models of that size."""
        return cls(30522, 512, 2, width=768, depth=12, heads=12, hidden=3072)


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> Config:
    """Read a Hugging Face ``config.json``."""
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelError(
            f"config.json: position_embedding_type {config['position_embedding_type']!r}, expected 'absolute'"
        )
    return Config(
        vocabulary=required(config, "vocab_size"),
        positions=required(config, "max_position_embeddings"),
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


class Block(nn.Module):
    """Attention and feed-forward, each followed by residual and normalisation."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = SelfAttention(config.width, config.heads)
        self.attention_norm = LayerNorm(config.width, config.eps)
        self.mlp = Mlp(config.width, config.hidden, config.activation)
        self.mlp_norm = LayerNorm(config.width, config.eps)

    def forward(self, x: torch.Tensor, cu_seqlens: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        """Map tokens (T, D) to (T, D), or to (B, D): `rows`, one of each sequence."""
        x = self.attention.residual(x, cu_seqlens, self.attention_norm, norm_first=False, rows=rows)
        return self.mlp.residual(x, self.mlp_norm, norm_first=False)


class Bert(Backbone):
    """The encoder without its task heads."""

    modality = "text"
    precisions = ("fp32", "int16", "int8")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.width, self.depth = config.width, config.depth
        self.pooling, self.normalize = config.pooling, config.normalize
        self.max_tokens = config.positions
        self.words = _table(config.vocabulary, config.width)
        self.positions = _table(config.positions, config.width)
        self.token_types = _table(config.token_types, config.width)
        self.norm = LayerNorm(config.width, config.eps)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))

    def forward(self, batch: Batch, outputs: Sequence[Output]) -> dict[str, torch.Tensor]:
        """Return each output as (B, D) float32."""
        assert isinstance(batch, TextBatch)
        x = self._embed(batch)
        wanted = {output.layer or self.depth for output in outputs}
        rows = rows_wanted(outputs, max(wanted), batch.cu_seqlens, self)
        layers = {}
        for number, block in enumerate(self.blocks[: max(wanted)], start=1):
            x = block(x, batch.cu_seqlens, rows if number == max(wanted) else None)
            if number in wanted:
                layers[number] = x
        return {o.name: pool_tokens(layers[o.layer or self.depth], batch.cu_seqlens, o, self) for o in outputs}

    def _embed(self, batch: TextBatch) -> torch.Tensor:
        begins = batch.cu_seqlens[:-1].repeat_interleave(batch.cu_seqlens.diff())
        places = torch.arange(len(batch.ids), device=begins.device) - begins
        words = F.embedding(batch.ids, self.words) + self.token_types[0]
        return self.norm.add(words, F.embedding(places, self.positions))[0]


def _table(rows: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, width), requires_grad=False)


def build(config: Config, spec: Spec) -> Bert:
    """Make the backbone, its weights still empty."""
    assert not isinstance(spec, ImageSpec)
    return Bert(config)


def describe(config: Config) -> dict[str, Any]:
    """What of the configuration belongs into the fingerprint."""
    return asdict(config)


def weight_map(config: Config) -> WeightMap:
    """Where each parameter comes from in a Hugging Face checkpoint."""
    names: dict[str, Sequence[str]] = {
        "words": ["embeddings.word_embeddings.weight"],
        "positions": ["embeddings.position_embeddings.weight"],
        "token_types": ["embeddings.token_type_embeddings.weight"],
    }
    modules: dict[str, Sequence[str]] = {"norm": ["embeddings.LayerNorm"]}
    for i in range(config.depth):
        theirs = f"encoder.layer.{i}"
        modules |= {
            f"blocks.{i}.attention.qkv": [f"{theirs}.attention.self.{part}" for part in ("query", "key", "value")],
            f"blocks.{i}.attention.out": [f"{theirs}.attention.output.dense"],
            f"blocks.{i}.attention_norm": [f"{theirs}.attention.output.LayerNorm"],
            f"blocks.{i}.mlp.up": [f"{theirs}.intermediate.dense"],
            f"blocks.{i}.mlp.down": [f"{theirs}.output.dense"],
            f"blocks.{i}.mlp_norm": [f"{theirs}.output.LayerNorm"],
        }
    for ours, parts in modules.items():
        for kind in ("weight", "bias"):
            names[f"{ours}.{kind}"] = [f"{part}.{kind}" for part in parts]
    return names
