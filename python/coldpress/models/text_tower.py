"""The text encoder that stands beside a vision transformer in CLIP and SigLIP.

Learned positions, pre-norm blocks, the last token of a text is its vector, then a linear map into the space that images
share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from coldpress import ops
from coldpress.layers import LayerNorm, Linear, PreNormBlock
from coldpress.models.base import Backbone, WeightMap, pool_tokens, run_blocks
from coldpress.models.tensor_names import BlockNames, map_blocks, map_modules
from coldpress.models.weights import expect_shapes
from coldpress.types import Batch, Output, TextBatch


@dataclass(frozen=True)
class TextConfig:
    """Sizes and variant; `projection` is the width of the last linear map, 0 without one."""

    vocabulary: int
    positions: int
    width: int
    depth: int
    heads: int
    hidden: int
    activation: ops.Activation
    eps: float
    causal: bool
    projection: int
    layout: str = ""


@dataclass(frozen=True)
class TextNames:
    """Tensors of a checkpoint beside its blocks; `transposed` says that the projection is (D, projection)."""

    blocks: BlockNames
    words: str
    positions: str
    norm: str
    projection: str
    bias: str = ""
    transposed: bool = False


class TextTower(Backbone):
    """The encoder with its projection."""

    modality = "text"
    dense = "tokens"
    pooling: ops.Pooling = "last"
    normalize = False
    precisions = ("fp32", "int16", "int8", "fp16", "bf16", "fp8")
    captured = True

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config, self.width, self.depth = config, config.width, config.depth
        self.max_tokens = config.positions
        self.words = nn.Parameter(torch.empty(config.vocabulary, config.width), requires_grad=False)
        self.positions = nn.Parameter(torch.empty(config.positions, config.width), requires_grad=False)
        self.blocks = nn.ModuleList(
            PreNormBlock(
                config.width,
                config.heads,
                config.hidden,
                activation=config.activation,
                eps=config.eps,
                window=ops.CAUSAL if config.causal else ops.EVERYWHERE,
            )
            for _ in range(config.depth)
        )
        self.norm = LayerNorm(config.width, config.eps)
        self.projection = Linear(config.width, config.projection, sensitive=True) if config.projection else None

    def forward(self, batch: Batch, outputs: Sequence[Output]) -> dict[str, torch.Tensor]:
        """Return each output as (B, D) float32."""
        assert isinstance(batch, TextBatch)
        _, places = ops.token_places(batch.cu_seqlens, len(batch.ids))
        x = F.embedding(batch.ids, self.words) + F.embedding(places, self.positions)

        def block(i: int, x: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
            out: torch.Tensor = self.blocks[i](x, batch.cu_seqlens, rows)
            return out

        with ops.known_lengths(batch.longest):
            layers = run_blocks(self, x, batch.cu_seqlens, outputs, block)
        if None in layers:
            layers[None] = self.norm(layers[None])
        return {o.name: self._vector(layers[o.layer], batch.cu_seqlens, o) for o in outputs}

    def _vector(self, tokens: torch.Tensor, cu_seqlens: torch.Tensor, output: Output) -> torch.Tensor:
        pooled = pool_tokens(tokens, cu_seqlens, output, self)
        if self.projection is None or not output.own:
            return pooled
        projected: torch.Tensor = self.projection(pooled)
        return projected

    def dim(self, output: Output) -> int:
        """Return D of an output; the model's own vector may be projected."""
        return self.config.projection or self.width if output.own else self.width


def adapt_text(tensors: dict[str, torch.Tensor], config: TextConfig, names: TextNames) -> dict[str, torch.Tensor]:
    """Turn the projection where the checkpoint has it the other way round."""
    if not names.transposed:
        return tensors
    expect_shapes(tensors, {names.projection: (config.width, config.projection)})
    return {name: t.T if name == names.projection else t for name, t in tensors.items()}


def map_text(config: TextConfig, names: TextNames) -> WeightMap:
    """Where each parameter comes from in a checkpoint, after `adapt_text`."""
    out = map_modules({"norm": [names.norm]}) | map_blocks(names.blocks, config.depth)
    out |= {"words": [names.words], "positions": [names.positions]}
    if config.projection:
        out["projection.weight"] = [names.projection]
    if config.projection and names.bias:
        out["projection.bias"] = [names.bias]
    return out
