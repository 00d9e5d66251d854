"""``activation(x W^T + bias)`` with weights packed once for the CPU kernel.

Source: the register blocking follows Goto and van de Geijn, *Anatomy of High-Performance Matrix Multiplication*
(2008), without their split of K: one chain of fused multiply-adds per output keeps results batch-invariant.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch.nn import functional as F

from coldpress.ops._define import define

Activation = Literal["none", "gelu", "gelu_tanh", "relu", "relu6", "quick_gelu", "silu"]

PANEL = 64
"""Columns of a weight panel; csrc/cpu/linear.cpp knows the same number."""


def pack_weight(weight: torch.Tensor) -> torch.Tensor:
    """Lay out a weight (N, K) as panels (ceil(N / 64), K, 64), missing columns zero."""
    N, K = weight.shape
    padded = F.pad(weight, (0, 0, 0, -N % PANEL))
    return padded.view(-1, PANEL, K).transpose(1, 2).contiguous()


def unpack_weight(packed: torch.Tensor, columns: int) -> torch.Tensor:
    """Return the weight (N, K) that :func:`pack_weight` laid out, N = `columns`."""
    return packed.transpose(1, 2).reshape(-1, packed.shape[1])[:columns]


def check_activation(op: str, activation: str) -> None:
    """Refuse an unknown activation; raises ValueError."""
    if activation not in get_args(Activation):
        raise ValueError(f"{op}: got activation {activation!r}, expected one of {', '.join(get_args(Activation))}")


def activate(x: torch.Tensor, activation: str) -> torch.Tensor:
    """Apply one of the activations in plain torch."""
    if activation == "none":
        return x
    if activation == "relu":
        return F.relu(x)
    if activation == "relu6":
        return F.relu6(x)
    if activation == "silu":
        return F.silu(x)
    if activation == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def linear_reference(x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor, activation: str) -> torch.Tensor:
    """Plain torch: unpack, multiply, activate."""
    return activate(F.linear(x, unpack_weight(packed, bias.shape[0]), bias), activation)


def _fake(x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor, activation: str) -> torch.Tensor:
    return x.new_empty(x.shape[0], bias.shape[0])


_linear = define(
    "linear(Tensor x, Tensor packed, Tensor bias, str activation) -> Tensor", reference=linear_reference, fake=_fake
)


def linear(x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor, activation: Activation = "none") -> torch.Tensor:
    """Multiply, add the bias and activate in one pass.

    Parameters
    ----------
    x : (M, K) float32, contiguous.
    packed : :func:`pack_weight` of the (N, K) weight.
    bias : (N,) float32.
    activation : what is applied to the sum.

    Returns
    -------
    (M, N) float32. Row m depends on row m of `x` alone, bit for bit.

    Raises
    ------
    ValueError
        If the shapes or the name of the activation do not fit.
    """
    fits = x.dim() == 2 and bias.dim() == 1 and packed.shape == (-(-len(bias) // PANEL), x.shape[1], PANEL)
    if not fits:
        raise ValueError(
            f"linear: got x {tuple(x.shape)}, packed {tuple(packed.shape)}, bias {tuple(bias.shape)}; "
            f"expected (M, K), (ceil(N / {PANEL}), K, {PANEL}), (N,)"
        )
    check_activation("linear", activation)
    return _linear(x, packed, bias, activation)  # type: ignore[no-any-return]
