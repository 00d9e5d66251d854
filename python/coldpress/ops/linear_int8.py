"""Linear layers whose product runs on bytes: weights int8 per output channel, activations uint8 per row.

A row of activations is quantised on the fly to ``x = scale * q + offset`` with its own least and greatest value, so its
result depends on nothing else, and the integer sums are exact: the same bits on every instruction set.

Source: per-row asymmetric activations as in Yao et al., *ZeroQuant* (2022), https://arxiv.org/abs/2206.01861.
"""

from __future__ import annotations

from typing import NamedTuple, get_args

import torch
from torch.nn import functional as F

from coldpress.ops._define import define
from coldpress.ops.linear import Activation, activate

PANEL = 64
"""Columns of a weight panel; csrc/core/packed_int8.h knows the same number."""

MAX_FEATURES = 65536
"""Longest row whose sums fit into 32 bits."""


class PackedInt8(NamedTuple):
    """A quantised weight (N, K): `packed` (ceil(N / 64), ceil(K / 4), 64, 4) int8, `columns` (2, N up to 64) float32.

    `columns` holds the scale of each output channel, and the scale times the sum of its integers.
    """

    packed: torch.Tensor
    columns: torch.Tensor


def pack_weight_int8(weight: torch.Tensor) -> PackedInt8:
    """Quantise a weight (N, K) float32 to [-127, 127] per output channel, and lay it out for the kernel."""
    N, K = weight.shape
    scales = weight.abs().amax(dim=1) / 127
    integers = (weight / scales.clamp_min(1e-30).unsqueeze(1)).round_().clamp_(-127, 127)
    padded = F.pad(integers.to(torch.int8), (0, -K % 4, 0, -N % PANEL))
    packed = padded.view(-1, PANEL, padded.shape[1] // 4, 4).transpose(1, 2).contiguous()
    columns = torch.stack([scales, scales * integers.sum(dim=1)])
    return PackedInt8(packed, F.pad(columns, (0, -N % PANEL)))


def unpack_weight_int8(packed: torch.Tensor, K: int, N: int) -> torch.Tensor:
    """Return the integers (N, K) int8 that :func:`pack_weight_int8` laid out."""
    return packed.transpose(1, 2).flatten(2).flatten(0, 1)[:N, :K]


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return integers in [0, 255] as floats (M, K), scales (M, 1) and offsets (M, 1) of `x` (M, K)."""
    offset, high = x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)
    span = high - offset
    inverse = torch.where(span > 0, 255 / span, 0)
    poison = (x * 0).sum(dim=1, keepdim=True)  # NaN where the row holds NaN or infinity
    return ((x - offset) * inverse).round(), span / 255 + poison, offset


def linear_int8_reference(
    x: torch.Tensor, packed: torch.Tensor, columns: torch.Tensor, bias: torch.Tensor, activation: str
) -> torch.Tensor:
    """Plain torch: quantise, multiply the integers in float64 (exact), dequantise, activate."""
    N = len(bias)
    integers, scale, offset = quantize_rows(x)
    weight = unpack_weight_int8(packed, x.shape[1], N)
    sums = (integers.nan_to_num(0).double() @ weight.double().T).to(x.dtype)
    scales, constants = columns[:, :N].to(x.dtype)
    return activate(sums * (scale * scales) + (offset * constants + bias), activation)


def _fake(
    x: torch.Tensor, packed: torch.Tensor, columns: torch.Tensor, bias: torch.Tensor, activation: str
) -> torch.Tensor:
    return x.new_empty(x.shape[0], bias.shape[0])


_linear_int8 = define(
    "linear_int8(Tensor x, Tensor packed, Tensor columns, Tensor bias, str activation) -> Tensor",
    reference=linear_int8_reference,
    fake=_fake,
)


def check_int8(name: str, K: int, weight: PackedInt8, bias: torch.Tensor, activation: str) -> None:
    """Refuse a weight that does not fit K inputs and the bias.

    Raises
    ------
    ValueError
        With what was got and what is expected.
    """
    panels = -(-len(bias) // PANEL) if bias.dim() == 1 else -1
    packed, columns = weight
    if packed.shape != (panels, -(-K // 4), PANEL, 4) or columns.shape != (2, panels * PANEL):
        raise ValueError(
            f"{name}: got x (M, {K}), packed {tuple(packed.shape)}, columns {tuple(columns.shape)}, "
            f"bias {tuple(bias.shape)}; expected what pack_weight_int8 makes of a weight (N, K), and bias (N,)"
        )
    if not 0 < K <= MAX_FEATURES:
        raise ValueError(f"{name}: got rows of {K} values, expected 1 to {MAX_FEATURES}")
    if activation not in get_args(Activation):
        raise ValueError(f"{name}: got activation {activation!r}, expected one of {', '.join(get_args(Activation))}")


def linear_int8(
    x: torch.Tensor, weight: PackedInt8, bias: torch.Tensor, activation: Activation = "none"
) -> torch.Tensor:
    """Quantise each row, multiply in integers, dequantise, add the bias and activate, in one pass.

    Parameters
    ----------
    x : (M, K) float32, contiguous, K at most 65,536.
    weight : :func:`pack_weight_int8` of the (N, K) weight.
    bias : (N,) float32.
    activation : what is applied to the sum.

    Returns
    -------
    (M, N) float32. Row m depends on row m of `x` alone, bit for bit. NaN or infinity in a row make it NaN.

    Raises
    ------
    ValueError
        If the shapes or the name of the activation do not fit.
    """
    if x.dim() != 2:
        raise ValueError(f"linear_int8: got x {tuple(x.shape)}, expected (M, K)")
    check_int8("linear_int8", x.shape[1], weight, bias, activation)
    return _linear_int8(x, *weight, bias, activation)  # type: ignore[no-any-return]
