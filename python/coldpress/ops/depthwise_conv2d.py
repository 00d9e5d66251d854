"""``activation(depthwise_conv2d(x, W) + bias)`` on channels-last images: a window of its own for every channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from coldpress.ops._define import define
from coldpress.ops.conv2d import check_window, output_size
from coldpress.ops.linear import Activation, activate, check_activation

LARGEST_WINDOW = 16
"""Rows of a window, at most; csrc/core/conv_shape.h knows the same number."""


def pack_taps(weight: torch.Tensor) -> torch.Tensor:
    """Lay out a weight (C, 1, h, w) as taps (h * w, C)."""
    return weight.flatten(1).t().contiguous()


def depthwise_conv2d_reference(
    x: torch.Tensor,
    taps: torch.Tensor,
    bias: torch.Tensor,
    kernel: Sequence[int],
    stride: int,
    dilation: int,
    padding: Sequence[int],
    activation: str,
) -> torch.Tensor:
    """Plain torch."""
    weight = taps.t().reshape(-1, 1, kernel[0], kernel[1])
    top, bottom, left, right = padding
    padded = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    out = F.conv2d(padded, weight, bias, stride, dilation=dilation, groups=len(weight))
    return activate(out, activation).permute(0, 2, 3, 1).contiguous()


def _fake(
    x: torch.Tensor,
    taps: torch.Tensor,
    bias: torch.Tensor,
    kernel: Sequence[int],
    stride: int,
    dilation: int,
    padding: Sequence[int],
    activation: str,
) -> torch.Tensor:
    return x.new_empty(x.shape[0], *output_size(x.shape[1:3], kernel, stride, padding, dilation), x.shape[3])


_depthwise_conv2d = define(
    "depthwise_conv2d(Tensor x, Tensor taps, Tensor bias, int[] kernel, int stride, int dilation, int[] padding, "
    "str activation) -> Tensor",
    reference=depthwise_conv2d_reference,
    fake=_fake,
)


def depthwise_conv2d(
    x: torch.Tensor,
    taps: torch.Tensor,
    bias: torch.Tensor,
    *,
    kernel: tuple[int, int],
    stride: int = 1,
    dilation: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    activation: Activation = "none",
) -> torch.Tensor:
    """Convolve every channel with its own window, add the bias and activate in one pass.

    Parameters
    ----------
    x : (B, height, width, C) float32, contiguous.
    taps : :func:`pack_taps` of the (C, 1, h, w) weight.
    bias : (C,) float32.
    kernel, stride : (h, w) of the window, h at most 16, and its step in both directions.
    dilation : distance of its taps.
    padding : zeros around the image: top, bottom, left, right.
    activation : what is applied to the sum.

    Returns
    -------
    (B, height', width', C) float32. Image b depends on image b of `x` alone, bit for bit.

    Raises
    ------
    ValueError
        If the shapes or the name of the activation do not fit.
    """
    C = bias.numel()
    if x.dim() != 4 or x.shape[3] != C or taps.shape != (kernel[0] * kernel[1], C) or kernel[0] > LARGEST_WINDOW:
        raise ValueError(
            f"depthwise_conv2d: got x {tuple(x.shape)}, taps {tuple(taps.shape)}, bias {tuple(bias.shape)}, kernel "
            f"{kernel}; expected (B, height, width, C), (h * w, C), (C,), h at most {LARGEST_WINDOW}"
        )
    check_window("depthwise_conv2d", x, bias, None, kernel, stride, padding, dilation)
    check_activation("depthwise_conv2d", activation)
    return _depthwise_conv2d(x, taps, bias, kernel, stride, dilation, padding, activation)  # type: ignore[no-any-return]
