"""A ragged batch of decoded images to one size on a GPU: resized and cropped to the bytes that Pillow makes.

Source: Pillow's ``Resample.c`` as csrc/image follows it; the weights are computed there, and here only summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from coldpress.ops._define import define

WEIGHT_BITS = 22
FIELDS = 16


class Axis(NamedTuple):
    """First source position (n,) of every kept position, its weights (n, taps), and where position 0 lands."""

    first: npt.NDArray[np.int32]
    weights: npt.NDArray[np.int32]
    pad: int

    @property
    def span(self) -> tuple[int, int]:
        """The first source position that matters, and how many do."""
        begin = int(self.first.min())
        return begin, int(self.first.max()) + self.weights.shape[1] - begin

    @property
    def table(self) -> npt.NDArray[np.int32]:
        """First positions, then weights."""
        return np.concatenate([self.first, self.weights.ravel()])


@dataclass(frozen=True)
class ResizePlan:
    """What the op has to know about a batch of images beside their pixels; see :func:`plan_batch`."""

    plans: torch.Tensor
    tables: torch.Tensor
    stage_bytes: int
    stage_lines: int

    def to(self, device: torch.device) -> ResizePlan:
        """The same on a device."""
        return ResizePlan(self.plans.to(device), self.tables.to(device), self.stage_bytes, self.stage_lines)


def plan_batch(images: Sequence[tuple[tuple[int, int], Axis, Axis, bool]]) -> ResizePlan:
    """Plan a batch of images that lie one behind the other.

    Each is its (height, width), the vertical and the horizontal axis, and whether the vertical pass comes first, as
    ``_image.resize_plan`` says.
    """
    rows, tables = [], []
    source = table = stage = most = 0
    for (height, width), y, x, vertical_first in images:
        (row, count), (column, columns) = y.span, x.span
        y_kept, x_kept = len(y.first), len(x.first)
        lines, line = (y_kept, columns) if vertical_first else (count, x_kept)
        x_table = table + y.table.size
        of_axes = (table, y_kept, y.weights.shape[1], y.pad, x_table, x_kept, x.weights.shape[1], x.pad)
        rows.append([source, width, *of_axes, row, count, column, columns, int(vertical_first), stage])
        tables += [y.table, x.table]
        source, table, stage = source + height * width * 3, x_table + x.table.size, stage + lines * line * 3
        most = max(most, lines)
    joined = np.concatenate(tables) if tables else np.zeros(0, np.int32)
    plans = torch.tensor(rows, dtype=torch.int64).view(-1, FIELDS)
    return ResizePlan(plans, torch.from_numpy(joined), stage, most)


def resize_images_reference(
    pixels: torch.Tensor,
    plans: torch.Tensor,
    tables: torch.Tensor,
    stage_bytes: int,
    stage_lines: int,
    height: int,
    width: int,
) -> torch.Tensor:
    """Plain torch, one image after the other."""
    out = pixels.new_zeros(len(plans), height, width, 3)
    for target, plan in zip(out, plans.tolist(), strict=True):
        source, columns, y_table, y_kept, y_taps, y_pad, x_table, x_kept, x_taps, x_pad, row, rows = plan[:12]
        image = pixels[source + row * columns * 3 :][: rows * columns * 3].view(rows, columns, 3)
        passes = [(0, y_table, y_kept, y_taps, row), (1, x_table, x_kept, x_taps, 0)]
        for axis, table, kept, taps, origin in passes if plan[14] else passes[::-1]:
            first, weights = tables[table:][:kept], tables[table + kept :][: kept * taps].view(kept, taps)
            image = _weigh(image, first - origin, weights, axis)
        target[y_pad : y_pad + y_kept, x_pad : x_pad + x_kept] = image
    return out


def _weigh(image: torch.Tensor, first: torch.Tensor, weights: torch.Tensor, axis: int) -> torch.Tensor:
    index = first.long()[:, None] + torch.arange(weights.shape[1], device=first.device)
    taken = image.index_select(axis, index.flatten()).unflatten(axis, index.shape)  # type: ignore[no-untyped-call]
    shape = [1] * taken.dim()
    shape[axis : axis + 2] = weights.shape
    sums = (taken.long() * weights.long().view(shape)).sum(dim=axis + 1) + (1 << WEIGHT_BITS - 1)
    return torch.clamp(sums >> WEIGHT_BITS, 0, 255).to(torch.uint8)


_resize_images = define(
    "resize_images(Tensor pixels, Tensor plans, Tensor tables, int stage_bytes, int stage_lines, int height, int width)"
    " -> Tensor",
    reference=resize_images_reference,
    fake=lambda pixels, plans, tables, stage_bytes, stage_lines, height, width: pixels.new_empty(
        len(plans), height, width, 3
    ),
    compiled=("CUDA",),
)


def resize_images(pixels: torch.Tensor, plan: ResizePlan, size: tuple[int, int]) -> torch.Tensor:
    """Resize and crop images of any size.

    Parameters
    ----------
    pixels : (bytes,) uint8, the RGB images one behind the other, (height, width, 3) each.
    plan : of these very images, on the same device.
    size : (height, width) of all results; what an image does not fill of it is zero.

    Returns
    -------
    (B, height, width, 3) uint8.

    Raises
    ------
    ValueError
        If `pixels` is no vector of bytes.
    """
    if pixels.dim() != 1 or pixels.dtype != torch.uint8:
        raise ValueError(f"resize_images: got pixels {pixels.dtype} {tuple(pixels.shape)}, expected uint8 (bytes,)")
    return _resize_images(pixels, plan.plans, plan.tables, plan.stage_bytes, plan.stage_lines, *size)  # type: ignore[no-any-return]
