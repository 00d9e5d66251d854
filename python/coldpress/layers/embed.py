"""From pixels to the token sequence of a vision transformer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from coldpress import ops
from coldpress.layers.linear import Linear


class PatchEmbedding(nn.Module):
    """uint8 images to tokens: normalise and cut in one pass, one product, prefix tokens and positions added.

    What is left of an image at its right and lower edge, less than a patch, is not seen, as in a convolution.

    Parameters
    ----------
    width, patch : D, and the side of a patch in pixels.
    prefix : number of tokens in front of the patches (class, distillation, registers).
    grid : (rows, columns) of patches of every image.
    scale, shift : value = pixel * scale + shift for each RGB channel.
    """

    def __init__(
        self,
        width: int,
        patch: int,
        prefix: int,
        grid: tuple[int, int],
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

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (B, height, width, 3) uint8 to (B * T, D), T = prefix + rows * columns."""
        B, height, width = len(pixels), self.grid[0] * self.patch, self.grid[1] * self.patch
        pixels = pixels[:, :height, :width].contiguous()
        patches = self.project(ops.patchify(pixels, self.patch, self.scale, self.shift))
        tokens = patches.view(B, *self.positions.shape) + self.positions
        return torch.cat([self.prefix.expand(B, -1, -1), tokens], dim=1).flatten(0, 1)

    def mixed(self, images: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Map images (height, width, 3) uint8, each with its own grid, to packed tokens and their bounds (B + 1,).

        Positions are resampled to every grid, bilinear with antialiasing; there are no tokens in front of the patches.
        """
        cut = [ops.patchify(image[None].contiguous(), self.patch, self.scale, self.shift) for image in images]
        square = _square(self.positions)
        grids = [(image.shape[0] // self.patch, image.shape[1] // self.patch) for image in images]
        placed = [
            F.interpolate(square, size=grid, mode="bilinear", align_corners=False, antialias=True)[0].flatten(1).T
            for grid in grids
        ]
        ends = torch.tensor([0, *map(len, cut)], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        empty = self.positions[:0]
        patches = self.project(torch.cat(cut)) if cut else empty
        return patches + torch.cat([empty, *placed]), ends.to(patches.device)


def interpolate_positions(positions: torch.Tensor, grid: tuple[int, int], *, antialias: bool) -> torch.Tensor:
    """Resample learned positions (side * side, D) of a square grid to (rows * columns, D), bicubic as upstream.

    `antialias` is how the model was trained: DINOv2 with registers has it, the others have not.
    """
    if (round(len(positions) ** 0.5),) * 2 == grid:
        return positions
    square = _square(positions)
    resampled = F.interpolate(square.float(), size=grid, mode="bicubic", align_corners=False, antialias=antialias)
    return resampled[0].permute(1, 2, 0).flatten(0, 1)


def _square(positions: torch.Tensor) -> torch.Tensor:
    """Positions (side * side, D) as an image (1, D, side, side).

    Contiguous: torch 2.13 resamples a channels-last image to a width of one wrongly.
    """
    side = round(len(positions) ** 0.5)
    return positions.view(side, side, -1).permute(2, 0, 1).unsqueeze(0).contiguous()
