"""``activation(conv2d(x, W) + bias [+ residual])`` on channels-last images, with weights packed once.

Source: the implicit matrix product of Chetlur et al., *cuDNN: Efficient Primitives for Deep Learning* (2014),
https://arxiv.org/abs/1410.0759, rows gathered through pointers as in Dukhan, *The Indirect Convolution Algorithm*
(2019), https://arxiv.org/abs/1907.02129.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from coldpress.ops._define import define
from coldpress.ops.linear import PANEL, Activation, activate, check_activation, pack_weight, unpack_weight


def pack_conv_weight(weight: torch.Tensor) -> torch.Tensor:
    """Lay out a weight (N, C, h, w) as panels (ceil(N / 64), h * w * C, 64), missing channels zero."""
    return pack_weight(weight.permute(0, 2, 3, 1).flatten(1))


def conv2d_reference(
    x: torch.Tensor,
    packed: torch.Tensor,
    bias: torch.Tensor,
    residual: torch.Tensor | None,
    kernel: Sequence[int],
    stride: int,
    padding: Sequence[int],
    activation: str,
) -> torch.Tensor:
    """Plain torch: unpack, convolve, add, activate."""
    weight = unpack_weight(packed, bias.shape[0]).view(-1, kernel[0], kernel[1], x.shape[3])
    top, bottom, left, right = padding
    maps, rest = x.permute(0, 3, 1, 2), (0, 0)
    if top == bottom and left == right:  # as engines that trace this like it
        rest = (top, left)
    else:
        maps = F.pad(maps, (left, right, top, bottom))
    out = F.conv2d(maps, weight.permute(0, 3, 1, 2), bias, stride, rest)
    if residual is not None:
        out = out + residual.permute(0, 3, 1, 2)
    return activate(out, activation).permute(0, 2, 3, 1).contiguous()


def output_size(
    size: Sequence[int], kernel: Sequence[int], stride: int, padding: Sequence[int], dilation: int = 1
) -> tuple[int, int]:
    """Return (height, width) of what a window makes of an image (height, width)."""
    top, bottom, left, right = padding
    height = size[0] + top + bottom - (kernel[0] - 1) * dilation - 1
    width = size[1] + left + right - (kernel[1] - 1) * dilation - 1
    return height // stride + 1, width // stride + 1


def check_window(
    op: str,
    x: torch.Tensor,
    bias: torch.Tensor,
    residual: torch.Tensor | None,
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int, int, int],
    dilation: int = 1,
) -> None:
    """Raise ValueError unless the window fits into the padded images, and the residual is as large as the output."""
    height, width = output_size(x.shape[1:3], kernel, stride, padding, dilation)
    if height < 1 or width < 1 or min(padding) < 0:
        raise ValueError(f"{op}: got images {tuple(x.shape[1:3])}, padding {padding}; expected to hold {kernel}")
    expected = (len(x), height, width, bias.numel())
    if residual is not None and residual.shape != expected:
        raise ValueError(f"{op}: got residual {tuple(residual.shape)}, expected {expected} as the output")


def _fake(
    x: torch.Tensor,
    packed: torch.Tensor,
    bias: torch.Tensor,
    residual: torch.Tensor | None,
    kernel: Sequence[int],
    stride: int,
    padding: Sequence[int],
    activation: str,
) -> torch.Tensor:
    return x.new_empty(x.shape[0], *output_size(x.shape[1:3], kernel, stride, padding), bias.shape[0])


_conv2d = define(
    "conv2d(Tensor x, Tensor packed, Tensor bias, Tensor? residual, int[] kernel, int stride, int[] padding, "
    "str activation) -> Tensor",
    reference=conv2d_reference,
    fake=_fake,
)


def conv2d(
    x: torch.Tensor,
    packed: torch.Tensor,
    bias: torch.Tensor,
    residual: torch.Tensor | None = None,
    *,
    kernel: tuple[int, int],
    stride: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    activation: Activation = "none",
) -> torch.Tensor:
    """Convolve, add the bias and, where given, the residual, and activate in one pass.

    Parameters
    ----------
    x : (B, height, width, C) float32, contiguous.
    packed : :func:`pack_conv_weight` of the (N, C, h, w) weight.
    bias : (N,) float32.
    residual : of the shape of the output; added before the activation.
    kernel, stride : (h, w) of the window, and its step in both directions.
    padding : zeros around the image: top, bottom, left, right.
    activation : what is applied to the sum.

    Returns
    -------
    (B, height', width', N) float32. Image b depends on image b of `x` alone, bit for bit.

    Raises
    ------
    ValueError
        If the shapes or the name of the activation do not fit.
    """
    if x.dim() != 4 or packed.shape != (-(-bias.numel() // PANEL), kernel[0] * kernel[1] * x.shape[3], PANEL):
        raise ValueError(
            f"conv2d: got x {tuple(x.shape)}, packed {tuple(packed.shape)}, bias {tuple(bias.shape)}, kernel {kernel}; "
            f"expected (B, height, width, C), (ceil(N / {PANEL}), h * w * C, {PANEL}), (N,)"
        )
    check_window("conv2d", x, bias, residual, kernel, stride, padding)
    check_activation("conv2d", activation)
    return _conv2d(x, packed, bias, residual, kernel, stride, padding, activation)  # type: ignore[no-any-return]
