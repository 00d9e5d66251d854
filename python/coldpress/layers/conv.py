"""Convolutions with frozen weights, their batch normalisation folded in; images are channels-last."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from coldpress import ops
from coldpress.layers.linear import STORED, library_product

Padding = Literal["half", "same", "none"]
"""``half`` pads by half a window on each side; ``same`` as TensorFlow does it: just enough, the odd one at the end."""

Sides = tuple[int, int, int, int]

WINOGRAD_CHANNELS = 16
"""From how many channels on the products outweigh the transforms."""


def padding_sides(padding: Padding, size: tuple[int, int], kernel: int, stride: int, dilation: int = 1) -> Sides:
    """Return top, bottom, left, right for images of `size` (height, width)."""
    if padding == "none":
        return (0, 0, 0, 0)
    if padding == "half":
        return ((kernel - 1) // 2 * dilation,) * 4
    height, width = (max(kernel - (side % stride or stride), 0) for side in size)
    sides = (height // 2, height - height // 2, width // 2, width - width // 2)
    return (sides[0] * dilation, sides[1] * dilation, sides[2] * dilation, sides[3] * dilation)


class Conv2d(nn.Module):
    """``activation(norm(conv(x)) [+ residual])``.

    :meth:`prepare` is called once after loading and folds the normalisation into weight and bias, in float64. On a
    GPU torch's own convolution runs, on channels-last images as well, and one pass for all that follows it; windows of
    one pixel are a product of matrices, whose epilogue does more.

    Parameters
    ----------
    inputs, outputs : channels C, N.
    kernel, stride, padding : of the square window.
    depthwise : a window of its own for every channel; C = N, no residual.
    dilation : distance of the taps of a depthwise window.
    bias : whether the convolution itself has one.
    norm_eps : epsilon of the batch normalisation behind it; None without one.
    activation : what is applied to the sum.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: Padding = "half",
        depthwise: bool = False,
        dilation: int = 1,
        bias: bool = False,
        norm_eps: float | None = None,
        activation: ops.Activation = "none",
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation, self.padding = kernel, stride, dilation, padding
        self.depthwise, self.norm_eps, self.activation = depthwise, norm_eps, activation
        self.winograd = not depthwise and (kernel, stride) == (3, 1) and min(inputs, outputs) >= WINOGRAD_CHANNELS
        self.weight = _frozen(torch.empty(outputs, 1 if depthwise else inputs, kernel, kernel))
        if bias:
            self.bias = _frozen(torch.zeros(outputs))
        if norm_eps is not None:
            self.norm_weight, self.norm_bias = _frozen(torch.ones(outputs)), _frozen(torch.zeros(outputs))
            self.norm_mean, self.norm_var = _frozen(torch.zeros(outputs)), _frozen(torch.ones(outputs))
        self.library = False
        self.packed: torch.Tensor | None
        self.shift: torch.Tensor
        self.register_buffer("packed", None, persistent=False)
        self.register_buffer("shift", torch.empty(0), persistent=False)

    def prepare(self, precision: str) -> None:
        """Fold the normalisation and pack the weight."""
        if self.packed is not None or self.library:
            return
        weight = self.weight.double()
        shift = self.bias.double() if hasattr(self, "bias") else weight.new_zeros(len(weight))
        if self.norm_eps is not None:
            scale = self.norm_weight.double() / torch.sqrt(self.norm_var.double() + self.norm_eps)
            shift = (shift - self.norm_mean.double()) * scale + self.norm_bias.double()
            weight = weight * scale.view(-1, 1, 1, 1)
        if precision in STORED or weight.is_cuda:
            dtype = STORED.get(precision, torch.float32)
            self.weight = _frozen(weight.to(dtype).contiguous(memory_format=torch.channels_last))
            self.shift, self.library = shift.to(dtype), True
            return
        pack = ops.pack_winograd_weight if self.winograd else ops.pack_conv_weight
        self.packed = (ops.pack_taps if self.depthwise else pack)(weight.float())
        self.shift = shift.float()
        self.weight = _frozen(torch.empty(0))

    def without_winograd(self) -> None:
        """Lay the prepared weight out as one for :func:`ops.conv2d`, whose reference engines that trace it know."""
        if self.winograd:
            weight, shift = self.folded
            self.packed = ops.pack_conv_weight(ops.unpack_winograd_weight(weight, shift.numel()))
            self.winograd = False

    def sides(self, x: torch.Tensor) -> Sides:
        """Padding for images (B, height, width, C)."""
        return padding_sides(self.padding, (x.shape[1], x.shape[2]), self.kernel, self.stride, self.dilation)

    @property
    def folded(self) -> ops.Folded:
        """Packed weight and bias, after :meth:`prepare`."""
        assert self.packed is not None, "prepare() comes first"
        return ops.Folded(self.packed, self.shift)

    def forward(
        self, x: torch.Tensor, residual: torch.Tensor | None = None, padding: Sides | None = None
    ) -> torch.Tensor:
        """Map (B, height, width, C) to (B, height', width', N); `padding` replaces what the layer would add."""
        kernel, sides = (self.kernel, self.kernel), self.sides(x) if padding is None else padding
        if self.library:
            return self._convolve(x, residual, sides)
        weight, bias = self.folded
        if self.depthwise:
            return ops.depthwise_conv2d(
                x, weight, bias,
                kernel=kernel, stride=self.stride, dilation=self.dilation, padding=sides, activation=self.activation,
            )  # fmt: skip
        if self.winograd:
            return ops.winograd_conv2d(x, weight, bias, residual, padding=sides, activation=self.activation)
        return ops.conv2d(
            x, weight, bias, residual,
            kernel=kernel, stride=self.stride, padding=sides, activation=self.activation,
        )  # fmt: skip

    def _convolve(self, x: torch.Tensor, residual: torch.Tensor | None, sides: Sides) -> torch.Tensor:
        x = x.to(self.weight.dtype)
        if self.kernel == self.stride == 1 and not self.depthwise:
            rows = None if residual is None else residual.flatten(0, 2)
            product = library_product(x.flatten(0, 2), self.weight.flatten(1), self.shift, self.activation, rows)
            return product.view(*x.shape[:3], -1)
        maps, (top, bottom, left, right) = x.permute(0, 3, 1, 2), sides
        around = (top, left)
        if top != bottom or left != right:
            maps, around = F.pad(maps, (left, right, top, bottom)), (0, 0)
        groups = maps.shape[1] if self.depthwise else 1
        out = F.conv2d(maps, self.weight, None, self.stride, around, self.dilation, groups)
        return ops.bias_activation_(out.permute(0, 2, 3, 1).contiguous(), self.shift, self.activation, residual)


class SeparableConv2d(nn.Module):
    """``[expand 1x1 ->] depthwise -> project 1x1 [+ x]`` in one pass.

    Parameters
    ----------
    inputs, wide, outputs : channels in front of, between and behind the layers.
    expand : whether there is a first 1x1 convolution; without it `inputs` = `wide`.
    kernel, stride, dilation, padding : of the depthwise window.
    norm_eps : epsilon of the batch normalisation behind each of them.
    inner, outer : activation behind the first two, and behind the last.
    residual : add the input at the end.
    """

    def __init__(
        self,
        inputs: int,
        wide: int,
        outputs: int,
        *,
        expand: bool,
        kernel: int,
        stride: int,
        padding: Padding,
        norm_eps: float,
        inner: ops.Activation,
        outer: ops.Activation = "none",
        dilation: int = 1,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.inner, self.outer, self.residual = inner, outer, residual
        self.expand = Conv2d(inputs, wide, 1, norm_eps=norm_eps, activation=inner) if expand else None
        self.depthwise = Conv2d(
            wide, wide, kernel, stride=stride, padding=padding, depthwise=True, dilation=dilation, norm_eps=norm_eps,
            activation=inner,
        )  # fmt: skip
        self.project = Conv2d(wide, outputs, 1, norm_eps=norm_eps, activation=outer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, height, width, C) to (B, height', width', N)."""
        middle = self.depthwise
        if middle.library:
            return self._by_parts(x)
        return ops.separable_conv2d(
            x,
            None if self.expand is None else self.expand.folded,
            middle.folded,
            self.project.folded,
            kernel=(middle.kernel, middle.kernel),
            stride=middle.stride,
            dilation=middle.dilation,
            padding=middle.sides(x),
            inner=self.inner,
            outer=self.outer,
            residual=self.residual,
        )

    def _by_parts(self, x: torch.Tensor) -> torch.Tensor:
        wide = x if self.expand is None else self.expand(x)
        out: torch.Tensor = self.project(self.depthwise(wide), x if self.residual else None)
        return out


class PixelConv2d(Conv2d):
    """The first convolution of a network: from uint8 pixels, normalised and padded in one pass.

    `scale` and `shift`: value = pixel * scale + shift for each RGB channel. The padding is zero after that, as
    upstream, so that neither can be folded into the weights.
    """

    def __init__(
        self,
        outputs: int,
        kernel: int,
        scale_shift: tuple[tuple[float, float, float], tuple[float, float, float]],
        *,
        stride: int,
        padding: Padding = "half",
        bias: bool = False,
        norm_eps: float | None = None,
        activation: ops.Activation = "none",
    ) -> None:
        super().__init__(
            3, outputs, kernel, stride=stride, padding=padding, bias=bias, norm_eps=norm_eps, activation=activation
        )
        scale, shift = scale_shift
        self.pixel_scale: torch.Tensor
        self.pixel_shift: torch.Tensor
        self.register_buffer("pixel_scale", torch.tensor(scale, dtype=torch.float32), persistent=False)
        self.register_buffer("pixel_shift", torch.tensor(shift, dtype=torch.float32), persistent=False)

    def from_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (B, height, width, 3) uint8 to (B, height', width', N)."""
        x = ops.pad_pixels(pixels, self.pixel_scale, self.pixel_shift, padding=self.sides(pixels))
        out: torch.Tensor = self(x, padding=(0, 0, 0, 0))
        return out


def _frozen(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
