"""What follows a product or a convolution of a GPU library: bias, residual and activation, in place and in one pass.

On CPUs our own products and convolutions do all of it themselves.
"""

from __future__ import annotations

import torch

from coldpress.ops._define import define
from coldpress.ops.linear import Activation, activate, check_activation


def bias_activation_reference(
    x: torch.Tensor, bias: torch.Tensor, activation: str, residual: torch.Tensor | None
) -> None:
    """Plain torch, in float32 at least."""
    summed = x.to(torch.promote_types(x.dtype, torch.float32)) + bias
    x.copy_(activate(summed if residual is None else summed + residual, activation))


_bias_activation = define(
    "bias_activation_(Tensor(a!) x, Tensor bias, str activation, Tensor? residual) -> ()",
    reference=bias_activation_reference,
    fake=lambda *_: None,
    compiled=("CUDA",),
)


def bias_activation_(
    x: torch.Tensor, bias: torch.Tensor, activation: Activation, residual: torch.Tensor | None = None
) -> torch.Tensor:
    """Change `x` (..., D) into ``activation(x + bias [+ residual])``, rounded once, and return it.

    Raises
    ------
    ValueError
        If `bias` is not (D,), `residual` not of the shape of `x`, or the activation unknown.
    """
    if x.dim() < 1 or bias.shape != x.shape[-1:] or (residual is not None and residual.shape != x.shape):
        shown = None if residual is None else tuple(residual.shape)
        raise ValueError(
            f"bias_activation_: got x {tuple(x.shape)}, bias {tuple(bias.shape)}, residual {shown}; "
            "expected bias (D,), residual of the shape of x"
        )
    check_activation("bias_activation_", activation)
    _bias_activation(x, bias, activation, residual)
    return x
