"""What the convolutional families share: feature maps become vectors by averaging over the image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import nn

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.layers import Conv2d
from coldpress.models.base import copy_sharing_tensors
from coldpress.models.openvino import Calibrated
from coldpress.types import Batch, ImageBatch, ImageSpec, Output, Spec

FeatureMaps = Mapping[int | None, torch.Tensor]


class ConvolutionalBackbone(Calibrated):
    """Turns the feature maps (B, height, width, C) of a family into one vector an image.

    `mean` is the average over the image, and `pooled` what the model itself makes of that; there is no class token.
    `patches` are the cells of the final map, row by row, as they are before that.
    """

    modality = "image"
    dense = "patches"
    pooling: ops.Pooling = "mean"
    normalize = False
    precisions: tuple[str, ...] = ("fp32", "int8", "fp16", "bf16")
    captured = True
    calibrated: tuple[str, ...] = ("int8",)

    def traceable(self, outputs: Sequence[Output]) -> nn.Module:
        """Return the network for one image, in plain torch."""
        if self.prepared is None:
            self.prepare()
        return _Traced(self, outputs)

    @abstractmethod
    def features(self, pixels: torch.Tensor, layers: Collection[int | None]) -> FeatureMaps:
        """Return the maps of the numbered layers, None the final one, of (B, height, width, 3) uint8."""

    def forward(self, batch: Batch, outputs: Sequence[Output]) -> dict[str, torch.Tensor]:
        """Return each output as (B, D) float32, of patches (B * cells, D)."""
        assert isinstance(batch, ImageBatch)
        return self.vectors(batch.pixels, outputs, average)

    def vectors(
        self, pixels: torch.Tensor, outputs: Sequence[Output], mean: Callable[[torch.Tensor], torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Return each output of (B, height, width, 3) uint8, `mean` being how maps are averaged."""
        for output in outputs:
            if output.pooling in ("cls", "last"):
                raise ModelError(
                    f"output {output.name!r}: a convolutional network has no such token; use pooled or mean"
                )
        maps = self.features(pixels, {output.layer for output in outputs})
        vectors = {o.name: maps[o.layer].flatten(0, 2).float() if o.dense else mean(maps[o.layer]) for o in outputs}
        final = {o.name for o in outputs if o.own}
        return {name: self.finish(vector) if name in final else vector for name, vector in vectors.items()}

    def finish(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map the averages (B, D) of the final layer to the model's own vectors."""
        return vectors


class _Traced(nn.Module):
    """One image to a tuple of (1, D) or (cells, D) in plain torch, the form in which other engines take a network."""

    def __init__(self, backbone: ConvolutionalBackbone, outputs: Sequence[Output]) -> None:
        super().__init__()
        self.backbone = copy_sharing_tensors(backbone)
        for module in self.backbone.modules():
            if isinstance(module, Conv2d):
                module.without_winograd()
        self.outputs = tuple(outputs)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with ops.ReferenceMode():
            vectors = self.backbone.vectors(pixels.unsqueeze(0), self.outputs, lambda maps: maps.mean(dim=(1, 2)))
        return tuple(vectors.values())


def average(x: torch.Tensor) -> torch.Tensor:
    """Average feature maps (B, height, width, C) over the image, in one fixed order."""
    B, height, width, C = x.shape
    bounds = torch.arange(B + 1, dtype=torch.int32, device=x.device) * (height * width)
    return ops.pool(x.reshape(-1, C), bounds, "mean")


def image_by_image(part: Callable[[torch.Tensor], Sequence[torch.Tensor]], x: torch.Tensor) -> list[torch.Tensor]:
    """Run a part of a network on each image of x (B, ...) alone; each of its results as a batch again.

    For maps so large that those of a batch leave the caches, of a CPU. The bits are those of the whole batch.
    """
    if x.is_cuda:
        return list(part(x))
    results = [part(image) for image in torch.split(x, 1)]
    return [torch.cat(of_all) for of_all in zip(*results, strict=True)]


def image_spec(spec: Spec) -> ImageSpec:
    """Return the specification of a family that takes images."""
    assert isinstance(spec, ImageSpec)
    return spec


def conv_names(ours: str, theirs: str) -> dict[str, Sequence[str]]:
    """Parameters of a convolution and of the normalisation behind it."""
    norm = {"weight": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    names: dict[str, Sequence[str]] = {f"{ours}.weight": [f"{theirs}.convolution.weight"]}
    return names | {f"{ours}.norm_{a}": [f"{theirs}.normalization.{b}"] for a, b in norm.items()}
