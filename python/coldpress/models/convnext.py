"""ConvNeXt and ConvNeXt V2, which has a response normalisation between its two linears instead of a layer scale.

The vector is the average of the last feature map, normalised; ``layer:K`` is the average of stage K.

Source: Liu et al., *A ConvNet for the 2020s* (2022), https://arxiv.org/abs/2201.03545; Woo et al., *ConvNeXt V2*
(2023), https://arxiv.org/abs/2301.00808. Weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/convnext/modeling_convnext.py and
convnextv2/modeling_convnextv2.py beside it (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.layers import Conv2d, GlobalResponseNorm, LayerNorm, Mlp, PixelConv2d
from coldpress.models.base import WeightMap
from coldpress.models.convolutional import ConvolutionalBackbone, FeatureMaps, image_by_image, image_spec
from coldpress.models.names import activation_named, required
from coldpress.models.weights import expect_shapes
from coldpress.types import ImageSpec, Output, Spec

MODEL_TYPES = frozenset({"convnext", "convnextv2"})
PREFIXES = ("convnext.", "convnextv2.")
IGNORED = (r"classifier\.",)
STEM_EPS = 1e-6
ALONE = 784
"""Tokens from which on the feed-forward block takes one image at a time, so that its wide layer stays in the cache.

Eight images of ConvNeXt-T, one thread: 1.11 times as fast in fp32, 1.21 in int8; 1.31 and 1.83 in the second version.
"""


@dataclass(frozen=True)
class Config:
    """Sizes; `widths` and `depths` of the stages."""

    widths: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (3, 3, 9, 3)
    patch: int = 4
    activation: ops.Activation = "gelu"
    eps: float = 1e-12
    layer_scale: bool = True
    response_norm: bool = False

    @classmethod
    def tiny(cls) -> Config:
        """ConvNeXt-T."""
        return cls()


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> Config:
    """Read a Hugging Face ``config.json``."""
    if config.get("num_channels", 3) != 3:
        raise ModelError(f"config.json: num_channels {config['num_channels']}, expected 3")
    if not isinstance(patch := config.get("patch_size", 4), int):
        raise ModelError(f"config.json: patch_size {patch!r}, expected one number, the side of a square")
    second = config["model_type"] == "convnextv2"
    return Config(
        widths=tuple(required(config, "hidden_sizes")),
        depths=tuple(required(config, "depths")),
        patch=patch,
        activation=activation_named(config.get("hidden_act", "gelu")),
        eps=config.get("layer_norm_eps", 1e-12),
        layer_scale=not second and config.get("layer_scale_init_value", 1e-6) > 0,
        response_norm=second,
    )


class Block(nn.Module):
    """Depthwise 7 x 7, normalisation, feed-forward with a response normalisation in the second version, residual."""

    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        self.depthwise = Conv2d(width, width, 7, depthwise=True, bias=True)
        self.norm = LayerNorm(width, STEM_EPS)
        self.mlp = Mlp(width, 4 * width, config.activation)
        self.response = GlobalResponseNorm(4 * width) if config.response_norm else None
        if config.layer_scale:  # folded into the layer in front by fold_layer_scale, then dropped
            self.scale = nn.Parameter(torch.ones(width), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, height, width, C) to the same shape."""
        inner = self.norm(self.depthwise(x))
        if x.shape[1] * x.shape[2] >= ALONE:
            (out,) = image_by_image(lambda image: [self._feed_forward(image)], inner)
        else:
            out = self._feed_forward(inner)
        return out + x

    def _feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, height, width, C) to the same shape."""
        inner = self.mlp.up(x.flatten(0, 2))
        if self.response is not None:
            inner = self.response(inner, len(x))
        out: torch.Tensor = self.mlp.down(inner)
        return out.view(x.shape)

    def fold_layer_scale(self) -> None:
        """Multiply the layer scale into the projection that it follows."""
        self.mlp.down.weight.mul_(self.scale.unsqueeze(1))
        self.mlp.down.bias.mul_(self.scale)
        del self.scale


class Stage(nn.Module):
    """Between stages normalisation and a 2 x 2 convolution of stride 2, then blocks."""

    def __init__(self, inputs: int, width: int, depth: int, config: Config, *, first: bool) -> None:
        super().__init__()
        self.down_norm = LayerNorm(inputs, STEM_EPS) if not first else None
        self.down = Conv2d(inputs, width, 2, stride=2, padding="none", bias=True) if not first else None
        self.blocks = nn.Sequential(*(Block(width, config) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, height, width, C) to (B, height', width', N)."""
        if self.down_norm is not None and self.down is not None:
            x = self.down(self.down_norm(x))
        out: torch.Tensor = self.blocks(x)
        return out


class ConvNext(ConvolutionalBackbone):
    """The network without its classifier."""

    precisions = ("fp32", "int16", "int8", "fp16", "bf16")
    calibrated = ()

    def __init__(self, config: Config, spec: ImageSpec) -> None:
        super().__init__()
        self.config, self.width, self.depth = config, config.widths[-1], len(config.widths)
        self.stem = PixelConv2d(
            config.widths[0], config.patch, spec.scale_shift, stride=config.patch, padding="none", bias=True
        )
        self.stem_norm = LayerNorm(config.widths[0], STEM_EPS)
        inputs = (config.widths[0], *config.widths)
        self.stages = nn.ModuleList(
            Stage(inputs[i], width, depth, config, first=i == 0)
            for i, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True))
        )
        self.norm = LayerNorm(self.width, config.eps)

    def dim(self, output: Output) -> int:
        """Return D of an output."""
        return self.width if output.layer is None else self.config.widths[output.layer - 1]

    def features(self, pixels: torch.Tensor, layers: Collection[int | None]) -> FeatureMaps:
        """Return the maps of stages."""
        x = self.stem_norm(self.stem.from_pixels(pixels))
        last = self.depth if None in layers else max(layer for layer in layers if layer is not None)
        maps: dict[int | None, torch.Tensor] = {}
        for number, stage in enumerate(self.stages[:last], start=1):
            x = stage(x)
            if number in layers:
                maps[number] = x
        if None in layers:
            maps[None] = x
        return maps

    def finish(self, vectors: torch.Tensor) -> torch.Tensor:
        """Normalise."""
        out: torch.Tensor = self.norm(vectors.to(self.norm.weight.dtype))
        return out.float()

    def prepare(self, precision: str = "fp32", layer_precision: Mapping[str, str] | None = None) -> None:
        """Fold the layer scales, then pack."""
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, Block) and hasattr(module, "scale"):
                    module.fold_layer_scale()
        super().prepare(precision, layer_precision)


def build(config: Config, spec: Spec) -> ConvNext:
    """Make the backbone, its weights still empty."""
    return ConvNext(config, image_spec(spec))


def describe(config: Config) -> dict[str, Any]:
    """What of the configuration belongs into the fingerprint."""
    return asdict(config)


def adapt(tensors: dict[str, torch.Tensor], config: Config, spec: Spec) -> dict[str, torch.Tensor]:
    """Flatten the parameters of response normalisations, (1, 1, 1, D) in the checkpoint."""
    shapes: dict[str, tuple[int, ...]] = {
        f"encoder.stages.{i}.layers.{j}.grn.{kind}": (1, 1, 1, 4 * width)
        for i, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True))
        for j in range(depth)
        for kind in ("weight", "bias")
        if config.response_norm
    }
    expect_shapes(tensors, shapes)
    return {name: t.flatten() if name in shapes else t for name, t in tensors.items()}


def weight_map(config: Config) -> WeightMap:
    """Where each parameter comes from in a Hugging Face checkpoint, after `adapt`."""
    modules = {"stem": "embeddings.patch_embeddings", "stem_norm": "embeddings.layernorm", "norm": "layernorm"}
    names: dict[str, Sequence[str]] = {}
    parts = {"depthwise": "dwconv", "norm": "layernorm", "mlp.up": "pwconv1", "mlp.down": "pwconv2"}
    parts |= {"response": "grn"} if config.response_norm else {}
    for i, depth in enumerate(config.depths):
        theirs = f"encoder.stages.{i}"
        if i:
            modules |= {f"stages.{i}.down_norm": f"{theirs}.downsampling_layer.0"}
            modules |= {f"stages.{i}.down": f"{theirs}.downsampling_layer.1"}
        for j in range(depth):
            block = f"stages.{i}.blocks.{j}"
            modules |= {f"{block}.{a}": f"{theirs}.layers.{j}.{b}" for a, b in parts.items()}
            if config.layer_scale:
                names[f"{block}.scale"] = [f"{theirs}.layers.{j}.layer_scale_parameter"]
    return names | {f"{a}.{kind}": [f"{b}.{kind}"] for a, b in modules.items() for kind in ("weight", "bias")}
