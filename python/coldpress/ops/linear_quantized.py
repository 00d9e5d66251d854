"""Linear layers whose product runs on integers of 8 or 16 bits: weights per output channel, activations per row.

A row of activations is quantised on the fly to ``x = scale * q + offset`` with its own least and greatest value, so its
result depends on nothing else, and the integer sums are exact: the same bits on every instruction set.

``int8`` has 256 steps a row and 255 a channel. ``int16`` has 8191 of both, so that sums of 128 products fit into 32
bits; they are added up in float32. The type of the packed weight says which of the two runs.

Source: per-row asymmetric activations as in Yao et al., *ZeroQuant* (2022), https://arxiv.org/abs/2206.01861.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch.nn import functional as F

from coldpress.ops._define import define
from coldpress.ops.linear import Activation, activate, check_activation

PANEL = 64
"""Columns of a weight panel; csrc/core/quantized.h knows the same number."""

MAX_FEATURES = 65536
"""Longest row whose sums of bytes fit into 32 bits."""


class _Format(NamedTuple):
    """Values of k in 32 bits; steps a row spans, the integer of its middle; largest integer of a weight."""

    group: int
    steps: int
    zero: int
    weight: int


_FORMATS = {torch.int8: _Format(4, 255, 0, 127), torch.int16: _Format(2, 8190, 4095, 4095)}


class QuantizedWeight(NamedTuple):
    """A quantised weight (N, K): `packed` (ceil(N / 64), ceil(K / g), 64, g), `columns` (2, N up to 64) float32.

    `packed` is int8 with g = 4 or int16 with g = 2. `columns` holds the scale of each output channel, and the scale
    times the sum of its integers.
    """

    packed: torch.Tensor
    columns: torch.Tensor


def quantize_weight(weight: torch.Tensor, precision: Literal["int8", "int16"] = "int8") -> QuantizedWeight:
    """Quantise a weight (N, K) float32 symmetrically per output channel, and lay it out for the kernel."""
    dtype: torch.dtype = getattr(torch, precision)
    group, _, _, largest = _FORMATS[dtype]
    N, K = weight.shape
    scales = weight.abs().amax(dim=1) / largest
    integers = (weight / scales.clamp_min(1e-30).unsqueeze(1)).round_().clamp_(-largest, largest)
    padded = F.pad(integers.to(dtype), (0, -K % group, 0, -N % PANEL))
    packed = padded.view(-1, PANEL, padded.shape[1] // group, group).transpose(1, 2).contiguous()
    columns = torch.stack([scales, scales * integers.double().sum(dim=1).float()])
    return QuantizedWeight(packed, F.pad(columns, (0, -N % PANEL)))


def unpack_weight_quantized(packed: torch.Tensor, K: int, N: int) -> torch.Tensor:
    """Return the integers (N, K) that :func:`quantize_weight` laid out."""
    return packed.transpose(1, 2).flatten(2).flatten(0, 1)[:N, :K]


def quantize_rows(x: torch.Tensor, dtype: torch.dtype = torch.int8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return integers as floats (M, K), scales (M, 1) and offsets (M, 1) of `x` (M, K), for weights of `dtype`."""
    _, steps, zero, _ = _FORMATS[dtype]
    least, high = x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)
    span = high - least
    inverse = torch.where(span > 0, torch.full_like(span, steps) / span, 0)  # a number / span would round twice
    scale = span / steps + (x * 0).sum(dim=1, keepdim=True)  # NaN where the row holds NaN or infinity
    return ((x - least) * inverse - zero).round(), scale, least + zero * scale


def linear_quantized_reference(
    x: torch.Tensor, packed: torch.Tensor, columns: torch.Tensor, bias: torch.Tensor, activation: str
) -> torch.Tensor:
    """Plain torch: quantise, multiply the integers in float64 (exact), dequantise, activate."""
    N = len(bias)
    integers, scale, offset = quantize_rows(x, packed.dtype)
    weight = unpack_weight_quantized(packed, x.shape[1], N)
    sums = (integers.nan_to_num(0).double() @ weight.double().T).to(x.dtype)
    scales, constants = columns[:, :N].to(x.dtype)
    return activate(sums * (scale * scales) + (offset * constants + bias), activation)


def _fake(
    x: torch.Tensor, packed: torch.Tensor, columns: torch.Tensor, bias: torch.Tensor, activation: str
) -> torch.Tensor:
    return x.new_empty(x.shape[0], bias.shape[0])


_linear_quantized = define(
    "linear_quantized(Tensor x, Tensor packed, Tensor columns, Tensor bias, str activation) -> Tensor",
    reference=linear_quantized_reference,
    fake=_fake,
)


def check_quantized(name: str, K: int, weight: QuantizedWeight, bias: torch.Tensor, activation: str) -> None:
    """Refuse a weight that does not fit K inputs and the bias.

    Raises
    ------
    ValueError
        With what was got and what is expected.
    """
    panels = -(-len(bias) // PANEL) if bias.dim() == 1 else -1
    packed, columns = weight
    form = _FORMATS.get(packed.dtype)
    expected = form and (panels, -(-K // form.group), PANEL, form.group)
    if packed.shape != expected or columns.shape != (2, panels * PANEL):
        raise ValueError(
            f"{name}: got x (M, {K}), packed {packed.dtype} {tuple(packed.shape)}, columns {tuple(columns.shape)}, "
            f"bias {tuple(bias.shape)}; expected what quantize_weight makes of a weight (N, K), and bias (N,)"
        )
    if not 0 < K <= MAX_FEATURES:
        raise ValueError(f"{name}: got rows of {K} values, expected 1 to {MAX_FEATURES}")
    check_activation(name, activation)


def check_alike(name: str, first: QuantizedWeight, second: QuantizedWeight) -> None:
    """Refuse two weights of different types.

    Raises
    ------
    ValueError
        With both.
    """
    if first.packed.dtype != second.packed.dtype:
        raise ValueError(f"{name}: got weights {first.packed.dtype} and {second.packed.dtype}, expected one type")


def linear_quantized(
    x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor, activation: Activation = "none"
) -> torch.Tensor:
    """Quantise each row, multiply in integers, dequantise, add the bias and activate, in one pass.

    Parameters
    ----------
    x : (M, K) float32, contiguous, K at most 65,536.
    weight : :func:`quantize_weight` of the (N, K) weight.
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
        raise ValueError(f"linear_quantized: got x {tuple(x.shape)}, expected (M, K)")
    check_quantized("linear_quantized", x.shape[1], weight, bias, activation)
    return _linear_quantized(x, *weight, bias, activation)  # type: ignore[no-any-return]
