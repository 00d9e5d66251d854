"""GELU of a biased product, for matrix products whose own epilogue cannot carry it (cuBLAS, generic backbones).

Source: Hendrycks, Gimpel, *Gaussian Error Linear Units* (2016), https://arxiv.org/abs/1606.08415.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from coldpress.ops._define import define


def bias_gelu_reference(x: torch.Tensor, bias: torch.Tensor, tanh: bool) -> torch.Tensor:
    """Plain torch."""
    return F.gelu(x + bias, approximate="tanh" if tanh else "none")


_bias_gelu = define(
    "bias_gelu(Tensor x, Tensor bias, bool tanh) -> Tensor",
    reference=bias_gelu_reference,
    fake=lambda x, bias, tanh: torch.empty_like(x),
    compiled=("CPU", "CUDA"),
)


def bias_gelu(x: torch.Tensor, bias: torch.Tensor, *, tanh: bool = False) -> torch.Tensor:
    """Return ``gelu(x + bias)`` for `x` (..., D): the exact (erf) form, or the tanh approximation.

    Raises
    ------
    ValueError
        If `bias` is not (D,).
    """
    if x.dim() < 1 or bias.shape != x.shape[-1:]:
        raise ValueError(f"bias_gelu: got x {tuple(x.shape)}, bias {tuple(bias.shape)}; expected bias (D,)")
    return _bias_gelu(x, bias, tanh)  # type: ignore[no-any-return]
