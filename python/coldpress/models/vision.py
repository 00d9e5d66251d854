"""The vision transformer of all image families: their files say how it is built and what its tensors are called.

One pre-norm encoder over patches. The variants differ in the tokens in front of the patches, in how a patch knows its
place, in the feed-forward block and in how the tokens become a vector.

Source: Dosovitskiy et al. (2020), https://arxiv.org/abs/2010.11929.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

import torch
from torch import nn

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.layers import (
    AttentionPool,
    Grid,
    LayerNorm,
    Linear,
    Packing,
    PatchEmbedding,
    PreNormBlock,
    Rotation,
    TokenMerging,
    interpolate_positions,
)
from coldpress.models.base import Backbone, WeightMap, copy_sharing_tensors, pool_tokens, run_blocks
from coldpress.models.names import required
from coldpress.models.tensor_names import BlockNames, adapt_blocks, fused_gate_shapes, map_blocks, map_modules, tensor
from coldpress.models.weights import expect_shapes
from coldpress.types import Batch, ImageBatch, ImageSpec, MixedBatch, Output, Spec, TextBatch


@dataclass(frozen=True)
class VisionConfig:
    """Sizes and variant.

    `special` counts the single tokens in front (class, distillation), `registers` those that follow; the first
    `positioned` of both have positions of their own. `positions` is ``learned``, ``flexible`` (learned, and resampled
    for each image to its own grid), or the base of a rotation by the place of a patch. `stem_norm` normalises in front
    of the blocks; `pool_first` the vector instead of the tokens. `projection` is the width of a last linear map, 0
    without one. `layout` is the naming scheme of the checkpoint.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    image_size: int
    special: int = 1
    registers: int = 0
    positioned: int = 1
    positions: Literal["learned", "flexible"] | float = "learned"
    activation: ops.Activation = "gelu"
    eps: float = 1e-12
    gated: bool = False
    layer_scale: bool = False
    stem_norm: bool = False
    pooling: Literal["cls", "mean", "attention"] = "cls"
    pool_first: bool = False
    projection: int = 0
    antialias: bool = False
    layout: str = ""
    biasless: tuple[str, ...] = ()

    @property
    def prefix(self) -> int:
        """Tokens in front of the patches."""
        return self.special + self.registers


@dataclass(frozen=True)
class VisionNames:
    """Tensors of a checkpoint beside its blocks.

    With `flat`, tokens are (D,) and positions (N, D) instead of (1, 1, D) and (1, N, D). `pool` has the modules of
    the attention pool; `transposed` says that the projection is (D, projection).
    """

    blocks: BlockNames
    patch: str
    special: tuple[str, ...] = ()
    registers: str = ""
    positions: str = ""
    norm: str = ""
    stem_norm: str = ""
    probe: str = ""
    pool: Mapping[str, Sequence[str]] = field(default_factory=dict)
    projection: str = ""
    transposed: bool = False
    flat: bool = False


def square(config: Mapping[str, Any]) -> tuple[int, int]:
    """Read the sides of image and patch from a Hugging Face ``config.json``."""
    for key in ("image_size", "patch_size"):
        if not isinstance(required(config, key), int):
            raise ModelError(f"config.json: {key} {config[key]!r}, expected one number, the side of a square")
    if config.get("num_channels", 3) != 3:
        raise ModelError(f"config.json: num_channels {config['num_channels']}, expected 3")
    return config["image_size"], config["patch_size"]


class VisionTower(Backbone):
    """The encoder without its task heads."""

    modality = "image"
    dense = "patches"
    normalize = False
    precisions = ("fp32", "int16", "int8", "fp16", "bf16", "fp8")

    def __init__(self, config: VisionConfig, spec: ImageSpec) -> None:
        super().__init__()
        self.config, self.width, self.depth = config, config.width, config.depth
        self.keeps_shape = spec.keeps_shape
        self.pooling: ops.Pooling = "cls" if config.pooling == "cls" else "mean"
        D, grid = config.width, _grid(config, spec)
        self.embed = PatchEmbedding(D, config.patch, config.prefix, grid, *spec.scale_shift)
        self.stem_norm = LayerNorm(D, config.eps) if config.stem_norm else None
        self.blocks = nn.ModuleList(
            PreNormBlock(
                D,
                config.heads,
                config.hidden,
                activation=config.activation,
                eps=config.eps,
                gated=config.gated,
                layer_scale=config.layer_scale,
            )
            for _ in range(config.depth)
        )
        self.merging: nn.ModuleList | None = None
        self.norm = LayerNorm(D, config.eps)
        self.pool = (
            AttentionPool(D, config.heads, config.hidden, config.activation, config.eps)
            if config.pooling == "attention"
            else None
        )
        self.projection = Linear(D, config.projection, sensitive=True) if config.projection else None
        cos, sin = rotation_of(config, grid)
        self.cos: torch.Tensor
        self.sin: torch.Tensor
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, batch: Batch, outputs: Sequence[Output]) -> dict[str, torch.Tensor]:
        """Return each output as (B, D) float32."""
        assert not isinstance(batch, TextBatch)
        x, cu_seqlens = self._embed(batch)
        if self.stem_norm is not None:
            x = self.stem_norm(x)
        packings = [Packing(cu_seqlens, None if self.merging is None else cu_seqlens.new_ones(len(x)))]
        rotation = self._rotation(batch) if len(self.cos) else None

        def block(i: int, x: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
            out, packing = self._run_block(i, x, packings[i], rows, rotation)
            packings.append(packing)
            return out

        layers = run_blocks(self, x, cu_seqlens, outputs, block)
        if None in layers and not self.config.pool_first:
            layers[None] = self.norm(layers[None])
        return {o.name: self._vector(layers[o.layer], packings[o.layer or -1], o) for o in outputs}

    def _run_block(
        self, i: int, x: torch.Tensor, packing: Packing, rows: torch.Tensor | None, rotation: Rotation | None
    ) -> tuple[torch.Tensor, Packing]:
        """Map tokens to those of the next block. `rows` stands for the first of each image where patches are merged."""
        block = self.blocks[i]
        with self._lengths(x, packing):
            if self.merging is None:
                return block(x, packing.cu_seqlens, rows, rotation), packing
            firsts = None if rows is None else packing.cu_seqlens[:-1].long()
            merged: tuple[torch.Tensor, Packing] = self.merging[i](block, x, packing, firsts)
            return merged

    def _lengths(self, tokens: torch.Tensor, packing: Packing) -> AbstractContextManager[None]:
        """Let attention and merging know that images have equally many tokens, where they do."""
        images = len(packing.cu_seqlens) - 1
        return ops.known_lengths(len(tokens) // images if images and not self.keeps_shape else None, equal=True)

    def _embed(self, batch: ImageBatch | MixedBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of all images one after the other, and where each begins."""
        if self.keeps_shape:
            return self.embed.mixed(_images(batch), None if len(self.cos) else self._positions)
        assert isinstance(batch, ImageBatch)
        x, B = self.embed(batch.pixels), len(batch)
        return x, torch.arange(B + 1, dtype=torch.int32, device=x.device) * (len(x) // max(B, 1))

    def _positions(self, grid: Grid) -> torch.Tensor:
        learned, antialias = self.embed.positions, self.config.antialias
        if self.config.positions == "flexible":
            return interpolate_positions(learned, grid, antialias=True, mode="bilinear")
        return interpolate_positions(learned, grid, antialias=antialias)

    def _rotation(self, batch: ImageBatch | MixedBatch) -> Rotation:
        """Cosines and sines for the tokens of all images."""
        if not self.keeps_shape:
            return self.cos.repeat(len(batch), 1), self.sin.repeat(len(batch), 1)
        turns = [
            tuple(part.to(self.cos.device) for part in rotation_of(self.config, self.embed.grid_of(image)))
            for image in _images(batch)
        ]
        empty = (self.cos[:0], self.sin[:0])
        cos, sin = (torch.cat(parts) for parts in zip(empty, *turns, strict=True))
        return cos, sin

    def _vector(self, tokens: torch.Tensor, packing: Packing, output: Output) -> torch.Tensor:
        cu_seqlens, sizes = packing.cu_seqlens, packing.sizes
        if output.own and self.pool is not None:
            bias = None if sizes is None or self.merging is None else cast(TokenMerging, self.merging[0]).bias(sizes)
            with self._lengths(tokens, packing):
                pooled: torch.Tensor = self.pool(tokens, cu_seqlens, bias).float()
        else:
            pooling = self.pooling if output.pooling == "model" else output.pooling
            if sizes is not None and pooling == "mean":
                tokens = tokens * self._weights(sizes, len(cu_seqlens) - 1).unsqueeze(1)
            pooled = pool_tokens(tokens, cu_seqlens, output, self, self.config.prefix)
        if not output.own:
            return pooled
        if self.config.pool_first:
            pooled = self.norm(pooled.to(self.norm.weight.dtype)).float()
        return pooled if self.projection is None else cast(torch.Tensor, self.projection(pooled))

    def _weights(self, sizes: torch.Tensor, B: int) -> torch.Tensor:
        """What tokens of sizes (T,) weigh in a mean over those of an image; 1 each where none were merged."""
        left = len(sizes) // max(B, 1) - self.config.prefix
        return sizes.float() * (left / self.patches)

    @property
    def captured(self) -> bool:  # type: ignore[override]
        """Where images have one size; a block takes equally many patches from each."""
        return not self.keeps_shape

    @property
    def patches(self) -> int:
        """Of an image, where all have one size."""
        return self.embed.grid[0] * self.embed.grid[1]

    def merge(self, tokens: int) -> None:
        """From now on each block merges so many patches, or half of them where there are fewer; called once, unpacked.

        Raises
        ------
        ModelError
            If images differ in size, the place of a patch is not in its values, or nothing would be left.
        """
        if self.keeps_shape or self.config.positions != "learned":
            kind = "are of images that keep their shapes" if self.keeps_shape else "know their place by rotation"
            raise ModelError(f"merge_tokens is {tokens}, and the patches of this network {kind}; leave it out")
        most = (self.patches - 1) // self.depth
        if not 1 <= tokens <= most:
            raise ModelError(
                f"merge_tokens is {tokens}, expected 1 to {most}: an image has {self.patches} patches for {self.depth} "
                "blocks to merge"
            )
        left, merging = self.patches, []
        for block in self.blocks:
            merged = min(tokens, left // 2)
            attention = cast(PreNormBlock, block).attention
            merging.append(TokenMerging(attention, self.config.prefix, merged, self.patches))
            left -= merged
        self.merging, self.merge_tokens = nn.ModuleList(merging), tokens

    def unmerged(self) -> VisionTower:
        """Return the same network with the same weights, all patches kept."""
        made = copy_sharing_tensors(self)
        made.merging, made.merge_tokens = None, 0
        return made

    def dim(self, output: Output) -> int:
        """Return D of an output; the model's own vector may be projected."""
        return self.config.projection or self.width if output.own else self.width

    def prepare(self, precision: str = "fp32", layer_precision: Mapping[str, str] | None = None) -> None:
        """Fold the layer scales, then pack."""
        for block in self.blocks:
            if isinstance(block, PreNormBlock):
                block.fold_layer_scale()
        super().prepare(precision, layer_precision)


def _images(batch: ImageBatch | MixedBatch) -> Sequence[torch.Tensor]:
    return batch.pixels.unbind() if isinstance(batch, ImageBatch) else batch.images


def _grid(config: VisionConfig, spec: ImageSpec) -> Grid:
    """Patches of every image; where images keep their shapes, those that positions were learned for."""
    if spec.keeps_shape or config.positions == "flexible":
        side = config.image_size // config.patch
        if spec.resize is None or spec.resize[:2] != ("patches", config.patch):
            raise ModelError(f"preprocessor_config.json: expected images cut into patches of {config.patch} pixels")
        return side, side
    if spec.size is None or min(spec.size) < config.patch:
        raise ModelError(
            f"preprocessing makes images of {spec.size or 'varying size'}, expected a fixed size from the patch size "
            f"{config.patch} on: give image_size, or in preprocessor_config.json a crop_size or a height and width"
        )
    return spec.size[0] // config.patch, spec.size[1] // config.patch


@lru_cache(maxsize=1024)
def rotation_of(config: VisionConfig, grid: Grid) -> Rotation:
    """Cosines and sines (T, D / 2) for the tokens of one image; those in front of the patches are not turned.

    Half of the pairs of a head turn with the row, half with the column, both from -1 to 1 over the image.
    """
    if isinstance(config.positions, str):
        return torch.empty(0, 0), torch.empty(0, 0)
    width = config.width // config.heads
    speeds = 1 / config.positions ** torch.arange(0, 1, 4 / width, dtype=torch.float32)
    rows, columns = (2 * (torch.arange(0.5, side) / side) - 1 for side in grid)
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
    angles = (2 * math.pi * places[:, :, None] * speeds).flatten(1, 2)
    angles = torch.cat([torch.zeros(config.prefix, angles.shape[1]), angles])
    return angles.cos(), angles.sin()


def build_tower(config: VisionConfig, spec: Spec) -> VisionTower:
    """Make the backbone, its weights still empty."""
    assert isinstance(spec, ImageSpec)
    return VisionTower(config, spec)


def adapt_tower(
    tensors: dict[str, torch.Tensor], config: VisionConfig, spec: Spec, names: VisionNames
) -> dict[str, torch.Tensor]:
    """Bring the checkpoint into our layout: flat patch weights, positions split and resampled, gates split."""
    assert isinstance(spec, ImageSpec)
    expect_shapes(tensors, _reshaped(config, names))
    out, D = dict(tensors), config.width
    positions = out.get(names.positions)
    own = positions.reshape(-1, D)[: config.positioned] if positions is not None else torch.zeros(config.positioned, D)
    for i, name in enumerate((*names.special, *filter(None, [names.registers]))):
        if (token := out.get(name)) is not None:
            tokens = token.reshape(-1, D).float().clone()
            tokens[: len(own[i:])] += own[i : i + len(tokens)]
            out[name] = tokens
    if positions is not None:
        patches = positions.reshape(-1, D)[config.positioned :]
        out[names.positions] = interpolate_positions(patches, _grid(config, spec), antialias=config.antialias)
    patch = tensor(names.patch, "weight")
    if (projection := out.get(patch)) is not None and config.positions == "flexible":  # row, column, channel
        out[patch] = projection.view(D, config.patch, config.patch, 3).permute(0, 3, 1, 2).flatten(1)
    elif projection is not None:
        out[patch] = projection.flatten(1)
    if (probe := out.get(names.probe)) is not None:
        out[names.probe] = probe[0]
    if names.transposed and (projection := out.get(names.projection)) is not None:
        out[names.projection] = projection.T
    adapt_blocks(out, names.blocks, config.depth)
    return out


def _reshaped(config: VisionConfig, names: VisionNames) -> dict[str, tuple[int, ...]]:
    """Shapes, in a checkpoint, of the tensors that `adapt_tower` lays out anew."""
    D, patches = config.width, (config.image_size // config.patch) ** 2
    lead = () if names.flat else (1,)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(names.special, (D,) if names.flat else (1, 1, D))
    shapes |= {
        names.positions: (*lead, config.positioned + patches, D),
        names.registers: (*lead, config.registers, D),
        names.probe: (1, 1, D),
        tensor(names.patch, "weight"): (D, 3, config.patch, config.patch),
    }
    if config.positions == "flexible":
        shapes[tensor(names.patch, "weight")] = (D, 3 * config.patch**2)
    if names.transposed:
        shapes[names.projection] = (D, config.projection)
    return shapes | fused_gate_shapes(names.blocks, config.depth, D, config.hidden)


def map_tower(config: VisionConfig, names: VisionNames) -> WeightMap:
    """Where each parameter comes from in a checkpoint, after `adapt_tower`."""
    modules = {"embed.project": [names.patch], "norm": [names.norm], **names.pool}
    if config.stem_norm:
        modules["stem_norm"] = [names.stem_norm]
    out = map_modules(modules, config.biasless) | map_blocks(names.blocks, config.depth)
    if prefix := [*names.special, *filter(None, [names.registers])]:
        out["embed.prefix"] = prefix
    if isinstance(config.positions, str):
        out["embed.positions"] = [names.positions]
    if config.pooling == "attention":
        out["pool.probe"] = [names.probe]
    if config.projection:
        out["projection.weight"] = [names.projection]
    return out
