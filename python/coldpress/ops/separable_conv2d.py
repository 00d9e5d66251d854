"""Expand, depthwise, project: the block of the MobileNets in one pass, its wide maps never in memory.

Source: Sandler et al., *MobileNetV2: Inverted Residuals and Linear Bottlenecks* (2018),
https://arxiv.org/abs/1801.04381.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

import torch

from coldpress.ops._define import define
from coldpress.ops.conv2d import conv2d_reference, output_size
from coldpress.ops.depthwise_conv2d import LARGEST_WINDOW, depthwise_conv2d_reference
from coldpress.ops.linear import PANEL, Activation


class Folded(NamedTuple):
    """A convolution ready to run: packed weight (or taps) and bias."""

    weight: torch.Tensor
    bias: torch.Tensor


def separable_conv2d_reference(
    x: torch.Tensor,
    expand: torch.Tensor | None,
    expand_bias: torch.Tensor | None,
    taps: torch.Tensor,
    taps_bias: torch.Tensor,
    project: torch.Tensor,
    project_bias: torch.Tensor,
    kernel: Sequence[int],
    stride: int,
    dilation: int,
    padding: Sequence[int],
    inner: str,
    outer: str,
    residual: bool,
) -> torch.Tensor:
    """Plain torch."""
    one, none, wide = (1, 1), (0, 0, 0, 0), x
    if expand is not None and expand_bias is not None:
        wide = conv2d_reference(x, expand, expand_bias, None, one, 1, none, inner)
    wide = depthwise_conv2d_reference(wide, taps, taps_bias, kernel, stride, dilation, padding, inner)
    return conv2d_reference(wide, project, project_bias, x if residual else None, one, 1, none, outer)


def _fake(
    x: torch.Tensor,
    expand: torch.Tensor | None,
    expand_bias: torch.Tensor | None,
    taps: torch.Tensor,
    taps_bias: torch.Tensor,
    project: torch.Tensor,
    project_bias: torch.Tensor,
    kernel: Sequence[int],
    stride: int,
    dilation: int,
    padding: Sequence[int],
    inner: str,
    outer: str,
    residual: bool,
) -> torch.Tensor:
    return x.new_empty(x.shape[0], *output_size(x.shape[1:3], kernel, stride, padding, dilation), project_bias.shape[0])


_separable_conv2d = define(
    "separable_conv2d(Tensor x, Tensor? expand, Tensor? expand_bias, Tensor taps, Tensor taps_bias, Tensor project, "
    "Tensor project_bias, int[] kernel, int stride, int dilation, int[] padding, str inner, str outer, bool residual) "
    "-> Tensor",
    reference=separable_conv2d_reference,
    fake=_fake,
)


def separable_conv2d(
    x: torch.Tensor,
    expand: Folded | None,
    depthwise: Folded,
    project: Folded,
    *,
    kernel: tuple[int, int],
    stride: int = 1,
    dilation: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    inner: Activation = "none",
    outer: Activation = "none",
    residual: bool = False,
) -> torch.Tensor:
    """Run a 1x1 convolution (or none), a depthwise one and another 1x1 one in one pass.

    Parameters
    ----------
    x : (B, height, width, C) float32, contiguous.
    expand, project : weights as :func:`coldpress.ops.conv2d` takes them; without `expand` the depthwise convolution
        reads `x` itself.
    depthwise : taps and bias as :func:`coldpress.ops.depthwise_conv2d` takes them.
    kernel, stride, dilation, padding : of the depthwise window.
    inner, outer : activation behind the first two, and behind the last.
    residual : add `x` in front of the last activation.

    Returns
    -------
    (B, height', width', N) float32: bit for bit what the single ops give. Image b depends on image b of `x` alone.

    Raises
    ------
    ValueError
        If the shapes or the names of the activations do not fit.
    """
    wide = expand.bias.numel() if expand is not None else x.shape[-1]
    N, layers = project.bias.numel(), [(project, wide)] + ([(expand, x.shape[-1])] if expand is not None else [])
    fits = x.dim() == 4 and depthwise.weight.shape == (kernel[0] * kernel[1], wide) and kernel[0] <= LARGEST_WINDOW
    fits = fits and depthwise.bias.shape == (wide,)
    if not fits or any(w.shape != (-(-bias.numel() // PANEL), C, PANEL) for (w, bias), C in layers):
        raise ValueError(
            f"separable_conv2d: got x {tuple(x.shape)}, depthwise {tuple(depthwise.weight.shape)}, project "
            f"{tuple(project.weight.shape)}, kernel {kernel}; expected (B, height, width, C), (h * w, E), "
            f"(ceil(N / {PANEL}), E, {PANEL}), and an expand from C to E unless they are equal"
        )
    size = output_size(x.shape[1:3], kernel, stride, padding, dilation)
    if min(size) < 1 or min(padding) < 0 or (residual and (*size, N) != tuple(x.shape[1:])):
        raise ValueError(
            f"separable_conv2d: got x {tuple(x.shape)}, padding {padding}, residual {residual}; expected images that "
            f"hold {kernel}, and a residual only where the output has their shape"
        )
    if not {inner, outer} <= set(get_args(Activation)):
        raise ValueError(
            f"separable_conv2d: got activations {inner!r}, {outer!r}, expected two of {', '.join(get_args(Activation))}"
        )
    return _separable_conv2d(  # type: ignore[no-any-return]
        x, *(expand or (None, None)), *depthwise, *project,
        kernel, stride, dilation, padding, inner, outer, residual,
    )  # fmt: skip
