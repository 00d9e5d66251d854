"""The one text encoder that all families of BERT's kind are: what sets them apart is configuration.

Run without padding: linears see all tokens of a batch at once, only attention sees where a text ends. Where tokens
stand is told by learned positions, by rotation, or by a bias on scores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from coldpress import ops
from coldpress.layers import LayerNorm, Linear, PostNormBlock, PreNormBlock, Rotation
from coldpress.models.base import Backbone, WeightMap, pool_tokens, run_blocks
from coldpress.models.tensor_names import BlockNames, map_blocks, map_modules
from coldpress.types import Batch, ImageSpec, Output, Spec, TextBatch


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes and variant of an encoder, and how its tokens become a vector.

    `max_tokens` is the longest text. `positions` are learned ones, 0 without; where `padding` is a token, its place
    is the first of them and it is not counted, as in RoBERTa. `rotations` has the base of the rotation of every block.
    `buckets` counts the learned biases by distance. `windows` has, for every block, how far a token sees, -1 for
    everywhere. `narrow` is the width of embeddings that a map widens to D, 0 without. `groups` has the number of the
    weights that every block uses, from 0 on, where blocks share theirs. `pre_norm` puts normalisation in front of
    the halves of a block, except of the very first, and one behind the last block. `biasless` are the parts of the
    checkpoint that have no bias.
    """

    vocabulary: int
    max_tokens: int
    width: int
    depth: int
    heads: int
    hidden: int
    positions: int = 0
    token_types: int = 0
    padding: int | None = None
    rotations: tuple[float, ...] = ()
    buckets: int = 0
    windows: tuple[int, ...] = ()
    activation: ops.Activation = "gelu"
    gated: bool = False
    narrow: int = 0
    groups: tuple[int, ...] = ()
    pre_norm: bool = False
    eps: float = 1e-12
    biasless: tuple[str, ...] = ()
    pooling: ops.Pooling = "mean"
    normalize: bool = False

    @property
    def first_uses(self) -> dict[int, int]:
        """The first block that uses each of the weights, by the number of the weights."""
        groups = self.groups or range(self.depth)
        return {group: groups.index(group) for group in dict.fromkeys(groups)}


@dataclass(frozen=True)
class EncoderNames:
    """Tensors of a checkpoint; those that a configuration has no use for stay empty."""

    blocks: BlockNames
    words: str
    stem_norm: str
    positions: str = ""
    token_types: str = ""
    biases: str = ""
    widen: str = ""
    norm: str = ""


class Encoder(Backbone):
    """The encoder without its task heads."""

    modality = "text"
    dense = "tokens"
    precisions = ("fp32", "int16", "int8", "fp16", "bf16", "fp8")
    captured = True

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config, self.width, self.depth = config, config.width, config.depth
        self.pooling, self.normalize = config.pooling, config.normalize
        narrow = config.narrow or config.width
        self.words = _table(config.vocabulary, narrow)
        self.positions = _table(config.positions, narrow) if config.positions else None
        self.token_types = _table(config.token_types, narrow) if config.token_types else None
        self.biases = _table(config.buckets, config.heads) if config.buckets else None
        self.stem_norm = LayerNorm(narrow, config.eps)
        self.widen = Linear(narrow, config.width, sensitive=True) if config.narrow else None
        made = {group: _block(config, first) for group, first in config.first_uses.items()}
        self.blocks = nn.ModuleList(made[group] for group in config.groups or made)
        self.norm = LayerNorm(config.width, config.eps) if config.pre_norm else None
        self.turns: torch.Tensor
        self.buckets: torch.Tensor
        self.register_buffer("turns", _turns(config), persistent=False)
        self.register_buffer("buckets", _buckets(config), persistent=False)

    def forward(self, batch: Batch, outputs: Sequence[Output]) -> dict[str, torch.Tensor]:
        """Return each output as (B, D) float32."""
        assert isinstance(batch, TextBatch)
        cu_seqlens = batch.cu_seqlens
        begins, places = ops.token_places(cu_seqlens, len(batch.ids))
        x = self._embed(batch.ids, places, begins)
        if self.widen is not None:
            x = self.widen(x)
        rotations = self._rotations(places)
        bias = None if self.biases is None else self.biases.T[:, self.buckets].contiguous()

        def block(i: int, x: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
            out: torch.Tensor = self.blocks[i](x, cu_seqlens, rows, rotations[i], bias)
            return out

        with ops.known_lengths(batch.longest):
            layers = run_blocks(self, x, cu_seqlens, outputs, block)
        if self.norm is not None and None in layers:
            layers[None] = self.norm(layers[None])
        return {o.name: pool_tokens(layers[o.layer], cu_seqlens, o, self) for o in outputs}

    def _embed(self, ids: torch.Tensor, places: torch.Tensor, begins: torch.Tensor) -> torch.Tensor:
        x = F.embedding(ids, self.words)
        if self.token_types is not None:
            x = x + self.token_types[0]
        if self.positions is None:
            normed: torch.Tensor = self.stem_norm(x)
            return normed
        if self.config.padding is not None:
            counted = (ids != self.config.padding).long()
            total = F.pad(counted.cumsum(0), (1, 0))
            places = (total[1:] - total[begins]) * counted
        normed, _ = self.stem_norm.add(x, F.embedding(places, self.positions))
        return normed

    def _rotations(self, places: torch.Tensor) -> Sequence[Rotation | None]:
        """For each block the cosines and sines of packed tokens: rows of a table, so that no company changes a bit."""
        bases = self.config.rotations
        if not bases:
            return [None] * self.depth
        made = [F.embedding(places, table) for table in self.turns.flatten(0, 1)]
        pairs = dict(zip(_distinct(bases), zip(made[::2], made[1::2], strict=True), strict=True))
        return [pairs[base] for base in bases]


def _table(rows: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, width), requires_grad=False)


def _block(config: EncoderConfig, index: int) -> PreNormBlock | PostNormBlock:
    sizes = config.width, config.heads, config.hidden
    if not config.pre_norm:
        return PostNormBlock(*sizes, activation=config.activation, eps=config.eps, gated=config.gated)
    side = config.windows[index] if config.windows else -1
    return PreNormBlock(
        *sizes,
        activation=config.activation,
        eps=config.eps,
        gated=config.gated,
        window=(side, side),
        bare=index == 0,
    )


def _distinct(bases: Sequence[float]) -> list[float]:
    return sorted(set(bases))


def _turns(config: EncoderConfig) -> torch.Tensor:
    """Cosines and sines (bases, 2, max_tokens, D / 2 of a head) of every place."""
    width, tables = config.width // config.heads, []
    for base in _distinct(config.rotations):
        speeds = 1.0 / base ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
        angles = torch.arange(config.max_tokens, dtype=torch.float32)[:, None] * speeds
        tables.append(torch.stack([angles.cos(), angles.sin()]))
    return torch.stack(tables) if tables else torch.empty(0)


def _buckets(config: EncoderConfig) -> torch.Tensor:
    """Index (2 R + 1,) of the bias of a query that is d = -R .. R tokens behind a key, R = max_tokens - 1.

    Half of the buckets are for keys behind the query. Half of each half are one distance each, the others grow
    with the logarithm up to 128. As in T5.
    """
    if not config.buckets:
        return torch.empty(0, dtype=torch.long)
    behind = torch.arange(1 - config.max_tokens, config.max_tokens)
    half = config.buckets // 2
    exact, distance = half // 2, behind.abs()
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(128 / exact) * (half - exact)
    far = (exact + growth.long()).clamp(max=half - 1)
    return torch.where(distance < exact, distance, far) + half * (behind < 0)


def build(config: EncoderConfig, spec: Spec) -> Encoder:
    """Make the backbone, its weights still empty."""
    assert not isinstance(spec, ImageSpec)
    return Encoder(config)


def describe(config: EncoderConfig) -> dict[str, Any]:
    """What of the configuration belongs into the fingerprint."""
    return asdict(config)


def map_encoder(config: EncoderConfig, names: EncoderNames) -> WeightMap:
    """Where each parameter comes from in a checkpoint."""
    modules: Mapping[str, Sequence[str]] = {"stem_norm": [names.stem_norm]} | (
        {"norm": [names.norm]} if config.pre_norm else {}
    )
    if config.narrow:
        modules = {**modules, "widen": [names.widen]}
    first = config.first_uses
    blocks = {
        re.sub(r"(?<=^blocks\.)\d+", lambda m: str(first[int(m[0])]), name): parts
        for name, parts in map_blocks(names.blocks, len(first)).items()
    }
    out = map_modules(modules, config.biasless) | blocks
    for ours in ("words", "positions", "token_types", "biases"):
        if theirs := getattr(names, ours):
            out[ours] = [theirs]
    if config.pre_norm:
        out = {name: parts for name, parts in out.items() if not name.startswith("blocks.0.attention_norm.")}
    return out
