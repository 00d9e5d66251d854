"""Products of float8 codes on Hopper and newer: rows quantised each for itself, weights row by row, sums in float32.

Source: Micikevicius et al., *FP8 Formats for Deep Learning* (2022), https://arxiv.org/abs/2209.05433.
"""

from __future__ import annotations

import torch

from coldpress.ops._define import define
from coldpress.ops.linear import Activation, activate, check_activation
from coldpress.ops.residual_norm import Codes, encode


def quantize_rows_reference(
    x: torch.Tensor, bias: torch.Tensor | None, activation: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain torch, in float32 at least."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return encode(activate(wide if bias is None else wide + bias, activation))


def linear_float8_reference(
    codes: torch.Tensor,
    steps: torch.Tensor,
    weight: torch.Tensor,
    weight_steps: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Plain torch: exact products of the codes, in float32."""
    sums = codes.float() @ weight.float().T * steps.unsqueeze(1) * weight_steps
    return (sums if bias is None else sums + bias).to(dtype)


def _cuda(
    codes: torch.Tensor,
    steps: torch.Tensor,
    weight: torch.Tensor,
    weight_steps: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    return torch._scaled_mm(
        codes,
        weight.T,
        scale_a=steps.unsqueeze(1),
        scale_b=weight_steps.unsqueeze(0),
        bias=bias,
        out_dtype=dtype,
        use_fast_accum=True,
    )


_quantize_rows = define(
    "quantize_rows(Tensor x, Tensor? bias, str activation) -> (Tensor, Tensor)",
    reference=quantize_rows_reference,
    fake=lambda x, bias, activation: (
        torch.empty_like(x, dtype=torch.float8_e4m3fn),
        x.new_empty(len(x), dtype=torch.float32),
    ),
    compiled=("CUDA",),
)
_linear_float8 = define(
    "linear_float8(Tensor codes, Tensor steps, Tensor weight, Tensor weight_steps, Tensor? bias, ScalarType dtype) "
    "-> Tensor",
    reference=linear_float8_reference,
    fake=lambda codes, steps, weight, weight_steps, bias, dtype: steps.new_empty(len(codes), len(weight), dtype=dtype),
    cuda=_cuda,
    compiled=(),
)


def quantize_rows(x: torch.Tensor, bias: torch.Tensor | None = None, activation: Activation = "none") -> Codes:
    """Return the codes of ``activation(x [+ bias])`` for `x` (T, D) in 16 bits.

    Raises
    ------
    ValueError
        If `bias` is not (D,), or the activation unknown.
    """
    if x.dim() != 2 or (bias is not None and bias.shape != x.shape[1:]):
        shown = None if bias is None else tuple(bias.shape)
        raise ValueError(f"quantize_rows: got x {tuple(x.shape)}, bias {shown}; expected (T, D) and (D,)")
    check_activation("quantize_rows", activation)
    return Codes(*_quantize_rows(x, bias, activation))


def linear_float8(
    codes: Codes, weight: Codes, bias: torch.Tensor | None, dtype: torch.dtype = torch.bfloat16
) -> torch.Tensor:
    """Multiply rows (T, K) by weights (N, K) and add the bias (N,): (T, N) in `dtype`, which the bias has too.

    Raises
    ------
    ValueError
        If the shapes or dtypes do not fit.
    """
    fits = codes.values.dim() == weight.values.dim() == 2 and codes.values.shape[1] == weight.values.shape[1]
    if not fits or codes.values.dtype != torch.float8_e4m3fn or weight.values.dtype != torch.float8_e4m3fn:
        raise ValueError(
            f"linear_float8: got {codes.values.dtype} {tuple(codes.values.shape)}, weight {weight.values.dtype} "
            f"{tuple(weight.values.shape)}; expected float8_e4m3fn (T, K), (N, K)"
        )
    return _linear_float8(*codes, *weight, bias, dtype)  # type: ignore[no-any-return]
