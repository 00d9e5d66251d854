"""From pixels to the token sequence of a vision transformer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from coldpress import ops
from coldpress.layers.linear import STORED, Linear

Grid = tuple[int, int]
Packed = tuple[torch.Tensor, torch.Tensor]

MIDDLE = 128
"""Taken from pixels in 16-bit modes: what is left is an integer that eight bits of a mantissa hold exactly."""


class PatchEmbedding(nn.Module):
    """uint8 images to tokens: normalise and cut in one pass, one product, prefix tokens and positions added.

    What is left of an image at its right and lower edge, less than a patch, is not seen, as in a convolution.

    Parameters
    ----------
    width, patch : D, and the side of a patch in pixels.
    prefix : number of tokens in front of the patches (class, distillation, registers).
    grid : (rows, columns) of patches of every image, or those that the positions are learned for.
    scale, shift : value = pixel * scale + shift for each RGB channel.
    """

    def __init__(
        self,
        width: int,
        patch: int,
        prefix: int,
        grid: Grid,
        scale: tuple[float, float, float],
        shift: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.patch, self.grid = patch, grid
        self.project = Linear(3 * patch * patch, width, sensitive=True)  # under 1 % of the work
        self.prefix = nn.Parameter(torch.zeros(prefix, width), requires_grad=False)
        self.positions = nn.Parameter(torch.zeros(grid[0] * grid[1], width), requires_grad=False)
        self.scale: torch.Tensor
        self.shift: torch.Tensor
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32), persistent=False)

    def prepare(self, precision: str) -> None:
        """Fold the normalisation of pixels into the projection where that is in 16 bits: no pixel is rounded then."""
        if precision not in STORED or self.scale.dtype == STORED[precision]:
            return
        dtype, project = STORED[precision], self.project
        weight = project.weight.double().view(len(project.weight), 3, -1)
        scale, shift = self.scale.double(), self.shift.double()
        bias = project.bias.double() + (weight * (shift + MIDDLE * scale)[:, None]).sum((1, 2))
        project.weight = nn.Parameter((weight * scale[:, None]).flatten(1).float(), requires_grad=False)
        project.bias = nn.Parameter(bias.float(), requires_grad=False)
        project.store(dtype)
        self.scale, self.shift = torch.ones_like(scale, dtype=dtype), torch.full_like(shift, -MIDDLE, dtype=dtype)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (B, height, width, 3) uint8 to (B * T, D), T = prefix + rows * columns."""
        B, height, width = len(pixels), self.grid[0] * self.patch, self.grid[1] * self.patch
        pixels = pixels[:, :height, :width].contiguous()
        patches = self.project(ops.patchify(pixels, self.patch, self.scale, self.shift))
        tokens = patches.view(B, *self.positions.shape) + self.positions
        return torch.cat([self.prefix.expand(B, -1, -1), tokens], dim=1).flatten(0, 1)

    def mixed(self, images: Sequence[torch.Tensor], resample: Callable[[Grid], torch.Tensor] | None) -> Packed:
        """Map images (height, width, 3) uint8, each with its own grid, to packed tokens and their bounds (B + 1,).

        `resample` makes the positions (rows * columns, D) of a grid; None where they are not in the values of tokens.
        """
        if not images:
            return self.prefix[:0], torch.zeros(1, dtype=torch.int32, device=self.prefix.device)
        cut = [ops.patchify(image[None].contiguous(), self.patch, self.scale, self.shift) for image in images]
        patches = self.project(torch.cat(cut))
        if resample is not None:
            positions = torch.cat([resample(self.grid_of(image)) for image in images])
            patches = patches + positions.to(patches.dtype)
        if len(self.prefix):
            parts = patches.split([len(part) for part in cut])
            patches = torch.cat([piece for part in parts for piece in (self.prefix, part)])
        lengths = torch.tensor([0, *(len(self.prefix) + len(part) for part in cut)], dtype=torch.int32)
        return patches, lengths.cumsum(0, dtype=torch.int32).to(patches.device)

    def grid_of(self, image: torch.Tensor) -> Grid:
        """(rows, columns) of patches of one image."""
        return image.shape[0] // self.patch, image.shape[1] // self.patch


def interpolate_positions(
    positions: torch.Tensor, grid: Grid, *, antialias: bool, mode: Literal["bicubic", "bilinear"] = "bicubic"
) -> torch.Tensor:
    """Resample learned positions (side * side, D) of a square grid to (rows * columns, D), as upstream.

    `antialias` is how the model was trained: DINOv2 with registers and SigLIP 2 have it, the others have not.
    """
    side = round(len(positions) ** 0.5)
    if (side, side) == grid:
        return positions
    # contiguous: torch 2.13 resamples a channels-last image to a width of one wrongly
    square = positions.float().view(side, side, -1).permute(2, 0, 1).unsqueeze(0).contiguous()
    resampled = F.interpolate(square, size=grid, mode=mode, align_corners=False, antialias=antialias)
    return resampled[0].permute(1, 2, 0).flatten(0, 1)
