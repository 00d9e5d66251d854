"""Attention inside each sequence of a packed batch, without padding.

In fp32, or with both of its products on 16-bit integers: keys and values quantised per column of a sequence (4095 and
2047 steps either side of zero), the scales of the keys taken into the queries, those per token (4095), probabilities to
8192 steps of the greatest. Sums are exact, so a sequence keeps its bits in any company.

A window keeps a query from keys far from it; a bias by distance and a bias of each key are added to scores.

Source: Vaswani et al., *Attention Is All You Need* (2017), https://arxiv.org/abs/1706.03762; windows as in Beltagy et
al., *Longformer* (2020), https://arxiv.org/abs/2004.05150; biases as in Raffel et al., *T5* (2019),
https://arxiv.org/abs/1910.10683.
"""

from __future__ import annotations

import itertools

import torch
from torch.nn import functional as F

from coldpress.ops._define import define
from coldpress.ops.attention_cuda import varlen_attention_cuda

Window = tuple[int, int]
"""How many tokens a query sees to its left and to its right, beside itself; -1 is all of them."""

EVERYWHERE: Window = (-1, -1)
CAUSAL: Window = (-1, 0)


def varlen_attention_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    scale: float,
    words: bool,
    bias: torch.Tensor | None = None,
    left: int = -1,
    right: int = -1,
    key_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Plain torch, one sequence after the other."""
    out = q.new_empty(q.shape)
    attend = _attend_words if words else F.scaled_dot_product_attention
    keys, queries = (itertools.pairwise(ends.tolist()) for ends in (cu_seqlens, cu_seqlens_q))
    for (begin, end), (first, last) in zip(keys, queries, strict=True):
        q1 = q[first:last].transpose(0, 1).unsqueeze(0)
        k1, v1 = (t[begin:end].transpose(0, 1).unsqueeze(0) for t in (k, v))
        added = None if bias is None and (left, right) == EVERYWHERE else _added(bias, (left, right), end - begin, q)
        if key_bias is not None:
            of_keys = key_bias[begin:end].to(q.dtype).expand(1, last - first, -1)
            added = of_keys if added is None else added + of_keys
        out[first:last] = attend(q1, k1, v1, attn_mask=added, scale=scale)[0].transpose(0, 1)
    return out.flatten(1)


def _added(bias: torch.Tensor | None, window: Window, T: int, like: torch.Tensor) -> torch.Tensor:
    """What is added to the scores of T queries (rows) and keys: (H or 1, T, T)."""
    tokens = torch.arange(T, device=like.device)
    behind = tokens[:, None] - tokens
    added = like.new_zeros(1, T, T) if bias is None else bias.to(like.dtype)[:, behind + bias.shape[1] // 2]
    left, right = (T if side < 0 else side for side in window)
    return added.masked_fill((behind > left) | (-behind > right), -torch.inf)


def _attend_words(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attn_mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """Attention of (1, H, T, D) on integers; sums in float64, where they are exact."""
    if not k.shape[2]:
        return q
    keys, key_step = _quantize(k, 4095, dim=2)
    values, value_step = _quantize(v, 2047, dim=2)
    queries, query_step = _quantize(q * (key_step * (scale * 1.44269504089)), 4095, dim=3)
    scores = (queries.double() @ keys.double().mT).to(q.dtype) * query_step
    if attn_mask is not None:
        scores = scores + attn_mask * 1.44269504089
    weights = (8192 * torch.exp2(scores - scores.amax(dim=3, keepdim=True))).round()
    return (weights.double() @ values.double()).to(q.dtype) * (value_step / weights.sum(dim=3, keepdim=True))


def _quantize(x: torch.Tensor, steps: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return integers as floats and what a step is, by the greatest magnitude along `dim`."""
    top = x.abs().amax(dim=dim, keepdim=True)
    inverse = torch.where(top > 0, torch.full_like(top, steps) / top, 0)
    return (x * inverse).round(), top / steps + (x * 0).sum(dim=dim, keepdim=True)


def _fake(q: torch.Tensor, *rest: object) -> torch.Tensor:
    return q.new_empty(q.shape[0], q.shape[1] * q.shape[2])


_varlen_attention = define(
    "varlen_attention(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens, Tensor cu_seqlens_q, float scale, bool words, "
    "Tensor? bias=None, int left=-1, int right=-1, Tensor? key_bias=None) -> Tensor",
    reference=varlen_attention_reference,
    fake=_fake,
    cuda=varlen_attention_cuda,
)


def varlen_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    *,
    scale: float,
    cu_seqlens_q: torch.Tensor | None = None,
    words: bool = False,
    window: Window = EVERYWHERE,
    bias: torch.Tensor | None = None,
    key_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return ``softmax(q k^T scale + bias + key_bias) v`` for each head and sequence.

    Parameters
    ----------
    q, k, v : (Tq, H, D) and (T, H, D) twice, float32: the tokens of all sequences one after the other. Views into one
        fused projection are welcome: only heads and widths have to be contiguous.
    cu_seqlens : (B + 1,) int32, the keys and values of sequence b are ``cu_seqlens[b]:cu_seqlens[b + 1]``.
    scale : factor on the scores, usually ``D ** -0.5``.
    cu_seqlens_q : the same for the queries, where not every token asks.
    words : whether both products run on 16-bit integers.
    window : how many tokens to the left and to the right of itself a query sees, -1 for all.
    bias : (H, 2 R + 1) float32, added to a score by distance: ``bias[h, R + i - j]`` for query i and key j of a
        sequence, which has R + 1 tokens at most. With a bias or a window every token is a query.
    key_bias : (T,) float32, added to every score of a key.

    Returns
    -------
    (Tq, H * D) float32. A query depends on itself and on the keys and values of its sequence alone, bit for bit.

    Raises
    ------
    ValueError
        If the shapes differ, or `cu_seqlens` is not an int32 vector.
    """
    if min(window) < -1 or (cu_seqlens_q is not None and (bias is not None or window != EVERYWHERE)):
        raise ValueError(
            f"varlen_attention: got window {window}, cu_seqlens_q {None if cu_seqlens_q is None else 'given'}; "
            "expected sides of -1 or more, and cu_seqlens_q=None with a window or a bias"
        )
    if bias is not None and (bias.dim() != 2 or len(bias) != q.shape[1] or bias.shape[1] % 2 == 0):
        raise ValueError(f"varlen_attention: got bias {tuple(bias.shape)}, expected ({q.shape[1]}, an odd number)")
    if key_bias is not None and key_bias.shape != (len(k),):
        raise ValueError(f"varlen_attention: got key_bias {tuple(key_bias.shape)}, expected ({len(k)},)")
    ends = cu_seqlens if cu_seqlens_q is None else cu_seqlens_q
    fit = q.dim() == 3 and k.shape == v.shape and q.shape[1:] == k.shape[1:] and cu_seqlens.dim() == 1
    if cu_seqlens_q is None:
        fit = fit and len(q) == len(k)
    if not fit or cu_seqlens.dtype != torch.int32 or ends.dtype != torch.int32 or ends.shape != cu_seqlens.shape:
        raise ValueError(
            f"varlen_attention: got q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, "
            f"cu_seqlens {cu_seqlens.dtype} {tuple(cu_seqlens.shape)}, for queries {ends.dtype} {tuple(ends.shape)}; "
            "expected (T, H, D) three times, int32 (B + 1,)"
        )
    args = (q, k, v, cu_seqlens, ends, scale, words, bias, *window, key_bias)
    return _varlen_attention(*args)  # type: ignore[no-any-return]
