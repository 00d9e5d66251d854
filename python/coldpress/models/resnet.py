"""ResNet, with basic blocks or bottlenecks.

The vector is the average of the last feature map; ``layer:K`` is that of stage K.

Source: He et al., *Deep Residual Learning* (2015), https://arxiv.org/abs/1512.03385; the stride of a bottleneck lies
in its 3x3 convolution, as in torchvision. Weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/resnet/modeling_resnet.py (Apache-2.0),
or with the names of torchvision and timm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.layers import Conv2d, PixelConv2d
from coldpress.models.base import WeightMap
from coldpress.models.convolutional import ConvolutionalBackbone, FeatureMaps, conv_names, image_by_image, image_spec
from coldpress.models.names import activation_named, required
from coldpress.types import ImageSpec, Output, Spec

MODEL_TYPES = frozenset({"resnet"})
PREFIXES = ("resnet.",)
IGNORED = (r"classifier\.", r"fc\.", r".*\.num_batches_tracked")
EPS = 1e-5
WIDE_STAGES = 2
"""Stages that run one image at a time, for a batch of their maps leaves the caches; ResNet-50 in batches of 8 on one
core of a Zen 5: 40.8 -> 33 ms an image."""


@dataclass(frozen=True)
class Config:
    """Sizes; `widths` and `depths` of the stages."""

    stem: int = 64
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    activation: ops.Activation = "relu"
    first_stride: int = 1
    stride_in_first: bool = False

    @classmethod
    def resnet50(cls) -> Config:
        """ResNet-50."""
        return cls()


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> Config:
    """Read a Hugging Face ``config.json``."""
    if config.get("num_channels", 3) != 3:
        raise ModelError(f"config.json: num_channels {config['num_channels']}, expected 3")
    kind = config.get("layer_type", "bottleneck")
    if kind not in ("basic", "bottleneck"):
        raise ModelError(f"config.json: layer_type {kind!r}, expected basic or bottleneck")
    return Config(
        stem=config.get("embedding_size", 64),
        widths=tuple(required(config, "hidden_sizes")),
        depths=tuple(required(config, "depths")),
        bottleneck=kind == "bottleneck",
        activation=activation_named(config.get("hidden_act", "relu")),
        first_stride=2 if config.get("downsample_in_first_stage") else 1,
        stride_in_first=bool(config.get("downsample_in_bottleneck")),
    )


class Block(nn.Module):
    """Convolutions, then the residual and the activation in the epilogue of the last one."""

    def __init__(self, inputs: int, outputs: int, stride: int, config: Config) -> None:
        super().__init__()
        self.shortcut = (
            Conv2d(inputs, outputs, 1, stride=stride, norm_eps=EPS) if inputs != outputs or stride != 1 else None
        )
        inner = outputs // 4 if config.bottleneck else outputs
        shapes = [(inputs, inner, 3, stride), (inner, outputs, 3, 1)]
        if config.bottleneck:
            first, second = (stride, 1) if config.stride_in_first else (1, stride)
            shapes = [(inputs, inner, 1, first), (inner, inner, 3, second), (inner, outputs, 1, 1)]
        inner_activation: ops.Activation = "relu"  # whatever the configuration says, as upstream
        activations = [*[inner_activation] * (len(shapes) - 1), config.activation]
        self.convs = nn.ModuleList(
            Conv2d(a, b, kernel, stride=step, norm_eps=EPS, activation=activation)
            for (a, b, kernel, step), activation in zip(shapes, activations, strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, height, width, C) to (B, height', width', N)."""
        residual = x if self.shortcut is None else self.shortcut(x)
        for conv in self.convs[:-1]:
            x = conv(x)
        out: torch.Tensor = self.convs[-1](x, residual)
        return out


class ResNet(ConvolutionalBackbone):
    """The network without its classifier."""

    def __init__(self, config: Config, spec: ImageSpec) -> None:
        super().__init__()
        self.config, self.width, self.depth = config, config.widths[-1], len(config.widths)
        self.stem = PixelConv2d(config.stem, 7, spec.scale_shift, stride=2, norm_eps=EPS, activation=config.activation)
        self.stages = nn.ModuleList()
        inputs = config.stem
        for i, (outputs, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            stride = config.first_stride if i == 0 else 2
            blocks = [Block(inputs, outputs, stride, config)]
            blocks += [Block(outputs, outputs, 1, config) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = outputs

    def dim(self, output: Output) -> int:
        """Return D of an output."""
        return self.width if output.layer is None else self.config.widths[output.layer - 1]

    def features(self, pixels: torch.Tensor, layers: Collection[int | None]) -> FeatureMaps:
        """Return the maps of stages."""
        last = self.depth if None in layers else max(layer for layer in layers if layer is not None)
        wide = min(last, WIDE_STAGES)
        outputs = image_by_image(lambda image: self._wide(image, wide), pixels)
        for stage in self.stages[wide:last]:
            outputs.append(stage(outputs[-1]))
        return {layer: outputs[-1 if layer is None else layer - 1] for layer in layers}

    def _wide(self, pixels: torch.Tensor, stages: int) -> list[torch.Tensor]:
        """Run the first stages on some of the images."""
        x = ops.max_pool2d(self.stem.from_pixels(pixels), kernel=(3, 3), stride=2, padding=(1, 1, 1, 1))
        outputs: list[torch.Tensor] = []
        for stage in self.stages[:stages]:
            x = stage(x)
            outputs.append(x)
        return outputs


def build(config: Config, spec: Spec) -> ResNet:
    """Make the backbone, its weights still empty."""
    return ResNet(config, image_spec(spec))


def describe(config: Config) -> dict[str, Any]:
    """What of the configuration belongs into the fingerprint."""
    return asdict(config)


_TORCHVISION: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (r"^layer(\d)\.(\d+)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}."),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
    (r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution."),
    (r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization."),
)


def adapt(tensors: dict[str, torch.Tensor], config: Config, spec: Spec) -> dict[str, torch.Tensor]:
    """Translate the names of torchvision and timm."""
    if not any(name.startswith("layer1.") for name in tensors):
        return tensors
    return {_translated(name): tensor for name, tensor in tensors.items()}


def _translated(name: str) -> str:
    for pattern, theirs in _TORCHVISION:
        name = re.sub(pattern, theirs, name)
    return name


def weight_map(config: Config) -> WeightMap:
    """Where each parameter comes from in a Hugging Face checkpoint, after `adapt`."""
    names: dict[str, Sequence[str]] = dict(conv_names("stem", "embedder.embedder"))
    inputs = config.stem
    for i, (outputs, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
        for j in range(depth):
            ours, theirs = f"stages.{i}.{j}", f"encoder.stages.{i}.layers.{j}"
            stride = 1 if j or (i == 0 and config.first_stride == 1) else 2
            if inputs != outputs or stride != 1:
                names |= conv_names(f"{ours}.shortcut", f"{theirs}.shortcut")
            for k in range(3 if config.bottleneck else 2):
                names |= conv_names(f"{ours}.convs.{k}", f"{theirs}.layer.{k}")
            inputs = outputs
    return names
