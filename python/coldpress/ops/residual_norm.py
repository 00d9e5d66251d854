"""What surrounds the products of a pre-norm block on a GPU: residual, normalisation, and the codes that float8 takes.

Tokens have 16 bits there. A row is quantised alone: ``value ~ code * step``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F

from coldpress.ops._define import define

Norm = tuple[torch.Tensor, torch.Tensor, float]
"""Weight (D,), bias (D,) and epsilon of a layer normalisation."""


def fits_residual_norm(width: int) -> bool:
    """Whether the kernels can hold tokens of so many values in registers; else there are the separate ops."""
    return width <= 2048 and width % 8 == 0


class Codes(NamedTuple):
    """Rows in float8_e4m3fn (T, D), and what a step is worth in each, (T,) float32."""

    values: torch.Tensor
    steps: torch.Tensor


def encode(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise the rows of `x` (T, D) in plain torch; a row with a NaN has a step of NaN."""
    most = float(torch.finfo(torch.float8_e4m3fn).max)
    top = x.abs().nan_to_num(0.0, posinf=torch.inf).amax(dim=1) if x.shape[1] else x.new_zeros(len(x))
    codes = (x * torch.where(top > 0, most / top, 0.0).unsqueeze(1)).clamp(-most, most)
    return codes.to(torch.float8_e4m3fn), torch.where(x.isnan().any(dim=1), torch.nan, top / most)


def _norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    return F.layer_norm(x, (x.shape[-1],), weight.to(x.dtype), bias.to(x.dtype), eps)


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def residual_norm_reference(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    shift: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain torch, in float32 at least."""
    summed = _wide(x) + residual
    kept = x[:0].clone() if shift is None else (summed + shift).to(x.dtype)
    return _norm(summed, weight, bias, eps).to(x.dtype), kept


def norm_quantized_reference(
    x: torch.Tensor, residual: torch.Tensor | None, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Plain torch, in float32 at least."""
    summed = _wide(x) if residual is None else _wide(x) + residual
    codes, steps = encode(_norm(summed, weight, bias, eps))
    return codes, steps, x[:0].clone() if residual is None else summed.to(x.dtype)


_residual_norm = define(
    "residual_norm(Tensor x, Tensor residual, Tensor weight, Tensor bias, float eps, Tensor? shift)"
    " -> (Tensor, Tensor)",
    reference=residual_norm_reference,
    fake=lambda x, residual, weight, bias, eps, shift: (
        torch.empty_like(x),
        x.new_empty(0, x.shape[1]) if shift is None else torch.empty_like(x),
    ),
    compiled=("CUDA",),
)
_norm_quantized = define(
    "norm_quantized(Tensor x, Tensor? residual, Tensor weight, Tensor bias, float eps) -> (Tensor, Tensor, Tensor)",
    reference=norm_quantized_reference,
    fake=lambda x, residual, weight, bias, eps: (
        torch.empty_like(x, dtype=torch.float8_e4m3fn),
        x.new_empty(len(x), dtype=torch.float32),
        torch.empty_like(x) if residual is not None else x.new_empty(0, x.shape[1]),
    ),
    compiled=("CUDA",),
)


def _check(op: str, x: torch.Tensor, residual: torch.Tensor | None, rows: tuple[torch.Tensor | None, ...]) -> None:
    fits = x.dim() == 2 and (residual is None or residual.shape == x.shape)
    if not fits or any(row is not None and row.shape != x.shape[1:] for row in rows):
        shown = ", ".join("none" if row is None else str(tuple(row.shape)) for row in (residual, *rows))
        raise ValueError(
            f"{op}: got x {tuple(x.shape)}, residual, weight, bias and shift {shown}; expected (T, D) twice and (D,)"
        )


def residual_norm(
    x: torch.Tensor, residual: torch.Tensor, norm: Norm, shift: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(layer_norm(x + residual), x + residual + shift)``, (T, D) both, each rounded once.

    Without a `shift` nobody wants the sum, and it is empty.

    Raises
    ------
    ValueError
        If `residual` is not of the shape of `x` (T, D), or weight, bias and `shift` not (D,).
    """
    weight, bias, eps = norm
    _check("residual_norm", x, residual, (weight, bias, shift))
    return _residual_norm(x, residual, weight, bias, eps, shift)  # type: ignore[no-any-return]


def norm_quantized(x: torch.Tensor, norm: Norm, residual: torch.Tensor | None = None) -> tuple[Codes, torch.Tensor]:
    """Return the codes of ``layer_norm(x [+ residual])``, and ``x + residual``, empty without a residual.

    Raises
    ------
    ValueError
        As :func:`residual_norm` does.
    """
    weight, bias, eps = norm
    _check("norm_quantized", x, residual, (weight, bias))
    codes, steps, summed = _norm_quantized(x, residual, weight, bias, eps)
    return Codes(codes, steps), summed
