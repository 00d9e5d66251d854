"""The attention half of a transformer block, its products on integers, with residual and normalisation, in
one op.

Source: Vaswani et al., *Attention Is All You Need* (2017), https://arxiv.org/abs/1706.03762.
"""

from __future__ import annotations

import torch

from coldpress.ops._define import define
from coldpress.ops.layer_norm import layer_norm_reference
from coldpress.ops.linear_quantized import (
    PANEL,
    QuantizedWeight,
    check_alike,
    check_quantized,
    linear_quantized_reference,
)
from coldpress.ops.varlen_attention import varlen_attention_reference


def attention_quantized_reference(
    x: torch.Tensor,
    cu_seqlens: torch.Tensor,
    heads: int,
    scale: float,
    qkv: torch.Tensor,
    qkv_columns: torch.Tensor,
    qkv_bias: torch.Tensor,
    out: torch.Tensor,
    out_columns: torch.Tensor,
    out_bias: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    eps: float,
    norm_first: bool,
    key_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Plain torch."""
    inputs = layer_norm_reference(x, norm_weight, norm_bias, eps) if norm_first else x
    projected = linear_quantized_reference(inputs, qkv, qkv_columns, qkv_bias, "none")
    q, k, v = projected.view(len(x), 3, heads, -1).unbind(1)
    mixed = varlen_attention_reference(q, k, v, cu_seqlens, cu_seqlens, scale, words=True, key_bias=key_bias)
    summed = linear_quantized_reference(mixed, out, out_columns, out_bias, "none") + x
    return summed if norm_first else layer_norm_reference(summed, norm_weight, norm_bias, eps)


_attention_quantized = define(
    "attention_quantized(Tensor x, Tensor cu_seqlens, int heads, float scale, Tensor qkv, Tensor qkv_columns, "
    "Tensor qkv_bias, Tensor out, Tensor out_columns, Tensor out_bias, Tensor norm_weight, Tensor norm_bias, "
    "float eps, bool norm_first, Tensor? key_bias=None) -> Tensor",
    reference=attention_quantized_reference,
    fake=lambda x, *rest: torch.empty_like(x),
)


def fits_attention_quantized(width: int, heads: int) -> bool:
    """Whether :func:`attention_quantized` takes a model of this size: whole heads in panels of 64 columns."""
    return width % PANEL == 0 and width % heads == 0 and PANEL % (width // heads) == 0


def attention_quantized(
    x: torch.Tensor,
    cu_seqlens: torch.Tensor,
    qkv: QuantizedWeight,
    qkv_bias: torch.Tensor,
    out: QuantizedWeight,
    out_bias: torch.Tensor,
    *,
    heads: int,
    scale: float,
    norm: tuple[torch.Tensor, torch.Tensor, float],
    norm_first: bool,
    key_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return ``norm(x + f(x))``, or ``x + f(norm(x))``, f being multi-head self-attention.

    Parameters
    ----------
    x : (T, D) float32, contiguous: the tokens of all sequences one after the other.
    cu_seqlens : (B + 1,) int32, sequence b is tokens ``cu_seqlens[b]:cu_seqlens[b + 1]``.
    qkv, out : :func:`quantize_weight` of the weights (3 D, D) and (D, D).
    qkv_bias, out_bias : (3 D,), (D,) float32.
    heads : H; the width of a head divides 64.
    scale : factor on the scores, usually ``(D / H) ** -0.5``.
    norm : weight (D,), bias (D,) and epsilon of the layer normalisation.
    norm_first : whether it stands in front of f.
    key_bias : (T,) float32, added to every score of a key.

    Returns
    -------
    (T, D) float32, bit for bit what :func:`linear_quantized`, :func:`varlen_attention` on words and
    :func:`add_layer_norm` give one after the other.

    Raises
    ------
    ValueError
        If the shapes do not fit, or `cu_seqlens` is not an int32 vector.
    """
    if x.dim() != 2 or not fits_attention_quantized(x.shape[1], heads):
        raise ValueError(
            f"attention_quantized: got x {tuple(x.shape)} and {heads} heads; "
            f"expected (T, D) with D a multiple of {PANEL} and the width of a head a divisor of it"
        )
    D = x.shape[1]
    if cu_seqlens.dim() != 1 or cu_seqlens.dtype != torch.int32:
        got = f"{cu_seqlens.dtype} {tuple(cu_seqlens.shape)}"
        raise ValueError(f"attention_quantized: got cu_seqlens {got}, expected int32")
    if qkv_bias.shape != (3 * D,) or out_bias.shape != (D,) or norm[0].shape != (D,) or norm[1].shape != (D,):
        raise ValueError(
            f"attention_quantized: got qkv_bias {tuple(qkv_bias.shape)}, out_bias {tuple(out_bias.shape)}, "
            f"norm {tuple(norm[0].shape)}, {tuple(norm[1].shape)}; expected ({3 * D},) and ({D},) three times"
        )
    if key_bias is not None and key_bias.shape != (len(x),):
        raise ValueError(f"attention_quantized: got key_bias {tuple(key_bias.shape)}, expected ({len(x)},)")
    check_quantized("attention_quantized: qkv", D, qkv, qkv_bias, "none")
    check_quantized("attention_quantized: out", D, out, out_bias, "none")
    check_alike("attention_quantized", qkv, out)
    args = (x, cu_seqlens, heads, scale, *qkv, qkv_bias, *out, out_bias, *norm, norm_first, key_bias)
    return _attention_quantized(*args)  # type: ignore[no-any-return]
