"""The greatest value under each window, on channels-last images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from coldpress.ops._define import define
from coldpress.ops.conv2d import output_size


def max_pool2d_reference(x: torch.Tensor, kernel: Sequence[int], stride: int, padding: Sequence[int]) -> torch.Tensor:
    """Plain torch."""
    top, bottom, left, right = padding
    maps, rest = x.permute(0, 3, 1, 2), [0, 0]
    if top == bottom <= kernel[0] // 2 and left == right <= kernel[1] // 2:  # as engines that trace this like it
        rest = [top, left]
    else:
        maps = F.pad(maps, (left, right, top, bottom), value=float("-inf"))
    return F.max_pool2d(maps, list(kernel), stride, rest).permute(0, 2, 3, 1).contiguous()


def _fake(x: torch.Tensor, kernel: Sequence[int], stride: int, padding: Sequence[int]) -> torch.Tensor:
    return x.new_empty(x.shape[0], *output_size(x.shape[1:3], kernel, stride, padding), x.shape[3])


_max_pool2d = define(
    "max_pool2d(Tensor x, int[] kernel, int stride, int[] padding) -> Tensor",
    reference=max_pool2d_reference,
    fake=_fake,
)


def max_pool2d(
    x: torch.Tensor,
    *,
    kernel: tuple[int, int],
    stride: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> torch.Tensor:
    """Take the greatest value under each window, channel by channel; a NaN under it stays.

    Parameters
    ----------
    x : (B, height, width, C) float32, contiguous.
    kernel, stride : (h, w) of the window, and its step in both directions.
    padding : how far windows reach over the edges (top, bottom, left, right), less than the window.

    Returns
    -------
    (B, height', width', C) float32.

    Raises
    ------
    ValueError
        If the window does not fit.
    """
    fits = x.dim() == 4 and min(padding) >= 0 and max(padding) < min(kernel)
    if not fits or min(output_size(x.shape[1:3], kernel, stride, padding)) < 1:
        raise ValueError(
            f"max_pool2d: got x {tuple(x.shape)}, kernel {kernel}, padding {padding}; "
            "expected (B, height, width, C) that hold the window, and padding smaller than it"
        )
    return _max_pool2d(x, kernel, stride, padding)  # type: ignore[no-any-return]
