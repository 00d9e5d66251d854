"""MobileNet, versions 1 and 2.

The vector is the average of the last feature map. ``layer:K`` is the output of the K-th block: of a depthwise and a
pointwise convolution (version 1), or of an inverted residual (version 2; the stem's own block does not count).

Source: Howard et al., *MobileNets* (2017), https://arxiv.org/abs/1704.04861; Sandler et al., *MobileNetV2* (2018),
https://arxiv.org/abs/1801.04381. Weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/mobilenet_v2/modeling_mobilenet_v2.py
(Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.layers import Conv2d, Padding, PixelConv2d, SeparableConv2d
from coldpress.models.base import WeightMap
from coldpress.models.convolutional import ConvolutionalBackbone, FeatureMaps, conv_names, image_by_image, image_spec
from coldpress.models.names import activation_named
from coldpress.types import ImageSpec, Output, Spec

MODEL_TYPES = frozenset({"mobilenet_v1", "mobilenet_v2"})
PREFIXES = ("mobilenet_v1.", "mobilenet_v2.")
IGNORED = (r"classifier\.", r"segmentation_head\.", r".*\.num_batches_tracked")

WIDE_BLOCKS = 3
"""Blocks at the beginning that take one image at a time (version 2 on one core: 3.65 -> 3.43 ms an image)."""

_STRIDES_V1 = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
_CHANNELS_V2 = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
_STRIDES_V2 = (2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)


@dataclass(frozen=True)
class BlockConfig:
    """Channels in front of, between and behind the layers of a block, and how its window moves."""

    inputs: int
    wide: int
    outputs: int
    stride: int
    dilation: int = 1
    expand: bool = True


@dataclass(frozen=True)
class Config:
    """Sizes; `head` channels of the last convolution, None without one."""

    version: int
    stem: int
    blocks: tuple[BlockConfig, ...]
    head: int | None
    activation: ops.Activation = "relu6"
    eps: float = 1e-3
    padding: Padding = "same"


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> Config:
    """Read a Hugging Face ``config.json``."""
    if config.get("num_channels", 3) != 3:
        raise ModelError(f"config.json: num_channels {config['num_channels']}, expected 3")
    version = 1 if config["model_type"] == "mobilenet_v1" else 2
    stem, blocks, head = _read_v1(config) if version == 1 else _read_v2(config)
    return Config(
        version=version,
        stem=stem,
        blocks=blocks,
        head=head,
        activation=activation_named(config.get("hidden_act", "relu6")),
        eps=config.get("layer_norm_eps", 1e-3),
        padding="same" if config.get("tf_padding", True) else "half",
    )


def _read_v1(config: Mapping[str, Any]) -> tuple[int, tuple[BlockConfig, ...], None]:
    depth, blocks = 32, []
    stem = channels = max(int(depth * config.get("depth_multiplier", 1.0)), config.get("min_depth", 8))
    for i, stride in enumerate(_STRIDES_V1):
        inputs = channels
        if stride == 2 or i == 0:
            depth *= 2
            channels = max(int(depth * config.get("depth_multiplier", 1.0)), config.get("min_depth", 8))
        blocks.append(BlockConfig(inputs, inputs, channels, stride, expand=False))
    return stem, tuple(blocks), None


def _read_v2(config: Mapping[str, Any]) -> tuple[int, tuple[BlockConfig, ...], int]:
    divisor, least = config.get("depth_divisible_by", 8), config.get("min_depth", 8)
    multiplier = config.get("depth_multiplier", 1.0)

    def scaled(channels: float) -> int:
        return _divisible(round(channels * multiplier), divisor, least)

    stem, channels = scaled(32), [scaled(c) for c in _CHANNELS_V2]
    blocks = [BlockConfig(stem, stem, channels[0], 1, expand=not config.get("first_layer_is_expansion", True))]
    step, dilation = 2, 1
    for stride, inputs, outputs in zip(_STRIDES_V2, channels, channels[1:], strict=False):
        wide = _divisible(round(inputs * config.get("expand_ratio", 6.0)), divisor, least)
        if step == config.get("output_stride", 32):  # from here on the maps keep their size and the taps move apart
            blocks.append(BlockConfig(inputs, wide, outputs, 1, dilation))
            dilation *= stride
        else:
            blocks.append(BlockConfig(inputs, wide, outputs, stride))
            step *= stride
    fine = config.get("finegrained_output", True) and multiplier < 1.0
    return stem, tuple(blocks), 1280 if fine else scaled(1280)


def _divisible(value: int, divisor: int, least: int) -> int:
    """Round to a multiple, but never down by more than a tenth."""
    rounded = max(least, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class MobileNet(ConvolutionalBackbone):
    """The network without its classifier."""

    def __init__(self, config: Config, spec: ImageSpec) -> None:
        super().__init__()
        self.config, self.width = config, config.head or config.blocks[-1].outputs
        self.first = config.version - 1  # blocks in front of layer:1
        self.depth = len(config.blocks) - self.first
        self.stem = PixelConv2d(
            config.stem,
            3,
            spec.scale_shift,
            stride=2,
            padding=config.padding,
            norm_eps=config.eps,
            activation=config.activation,
        )
        self.blocks = nn.ModuleList(_block(block, config, number) for number, block in enumerate(config.blocks))
        self.head = (
            Conv2d(config.blocks[-1].outputs, config.head, 1, norm_eps=config.eps, activation=config.activation)
            if config.head
            else None
        )

    def dim(self, output: Output) -> int:
        """Return D of an output."""
        return self.width if output.layer is None else self.config.blocks[self.first + output.layer - 1].outputs

    def features(self, pixels: torch.Tensor, layers: Collection[int | None]) -> FeatureMaps:
        """Return the maps of blocks, None that of the last convolution."""
        behind = {layer: len(self.blocks) if layer is None else self.first + layer for layer in layers}
        wide = min(max(behind.values()), WIDE_BLOCKS)
        early = sorted({number for number in behind.values() if number < wide} | {wide})
        late = sorted({number for number in behind.values() if number > wide})
        found = image_by_image(lambda image: self._run(self.stem.from_pixels(image), 0, early), pixels)
        maps = dict(zip([*early, *late], found + self._run(found[-1], wide, late), strict=True))
        named: dict[int | None, torch.Tensor] = {layer: maps[number] for layer, number in behind.items()}
        if None in named and self.head is not None:
            named[None] = self.head(named[None])
        return named

    def _run(self, x: torch.Tensor, begin: int, kept: Sequence[int]) -> list[torch.Tensor]:
        """Run blocks from `begin` on, where x is; returns the maps behind as many blocks as `kept` says, in order."""
        maps = []
        for number in range(begin, max(kept, default=begin)):
            x = self.blocks[number](x)
            if number + 1 in kept:
                maps.append(x)
        return maps


def _block(block: BlockConfig, config: Config, number: int) -> SeparableConv2d:
    inverted = config.version == 2
    return SeparableConv2d(
        block.inputs,
        block.wide,
        block.outputs,
        expand=block.expand,
        kernel=3,
        stride=block.stride,
        dilation=block.dilation,
        padding=config.padding,
        norm_eps=config.eps,
        inner=config.activation,
        outer="none" if inverted else config.activation,
        residual=inverted and number > 0 and block.stride == 1 and block.inputs == block.outputs,
    )


def build(config: Config, spec: Spec) -> MobileNet:
    """Make the backbone, its weights still empty."""
    return MobileNet(config, image_spec(spec))


def describe(config: Config) -> dict[str, Any]:
    """What of the configuration belongs into the fingerprint."""
    return asdict(config)


def weight_map(config: Config) -> WeightMap:
    """Where each parameter comes from in a Hugging Face checkpoint."""
    names: dict[str, Sequence[str]] = dict(
        conv_names("stem", "conv_stem" if config.version == 1 else "conv_stem.first_conv")
    )
    for i, block in enumerate(config.blocks):
        if config.version == 1:
            parts = {"depthwise": f"layer.{2 * i}", "project": f"layer.{2 * i + 1}"}
        else:
            theirs = f"layer.{i - 1}" if i else "conv_stem"
            parts = {"depthwise": f"{theirs}.conv_3x3", "project": f"{theirs}.reduce_1x1"}
            parts |= {"expand": f"{theirs}.expand_1x1"} if block.expand else {}
        for ours, name in parts.items():
            names |= conv_names(f"blocks.{i}.{ours}", name)
    return names | (conv_names("head", "conv_1x1") if config.head else {})
