"""Layer normalisation, alone or fused with the residual addition in front of it.

Source: Ba, Kiros, Hinton, *Layer Normalization* (2016), https://arxiv.org/abs/1607.06450.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from coldpress.ops._define import define


def layer_norm_reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """Plain torch."""
    return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)


def add_layer_norm_reference(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain torch."""
    summed = x + residual
    return layer_norm_reference(summed, weight, bias, eps), summed


_layer_norm = define(
    "layer_norm(Tensor x, Tensor weight, Tensor bias, float eps) -> Tensor",
    reference=layer_norm_reference,
    fake=lambda x, weight, bias, eps: torch.empty_like(x),
    compiled=("CPU", "CUDA"),
)
_add_layer_norm = define(
    "add_layer_norm(Tensor x, Tensor residual, Tensor weight, Tensor bias, float eps) -> (Tensor, Tensor)",
    reference=add_layer_norm_reference,
    fake=lambda x, residual, weight, bias, eps: (torch.empty_like(x), torch.empty_like(x)),
    compiled=("CPU", "CUDA"),
)


def _check(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> None:
    if x.dim() < 1 or weight.shape != x.shape[-1:] or bias.shape != x.shape[-1:]:
        raise ValueError(
            f"layer_norm: got x {tuple(x.shape)}, weight {tuple(weight.shape)}, bias {tuple(bias.shape)}; "
            "expected weight and bias of the last dimension of x"
        )


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """Normalise each row of `x` (..., D) to mean 0 and variance 1, then scale and shift.

    Raises
    ------
    ValueError
        If `weight` or `bias` is not (D,).
    """
    _check(x, weight, bias)
    return _layer_norm(x, weight, bias, eps)  # type: ignore[no-any-return]


def add_layer_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(layer_norm(x + residual), x + residual)``, both of the shape of `x` (..., D), in one pass.

    Raises
    ------
    ValueError
        If `residual` is not of the shape of `x`, or `weight` or `bias` not (D,).
    """
    _check(x, weight, bias)
    if residual.shape != x.shape:
        raise ValueError(f"add_layer_norm: got residual {tuple(residual.shape)}, expected {tuple(x.shape)} as x")
    return _add_layer_norm(x, residual, weight, bias, eps)  # type: ignore[no-any-return]
