"""Attention inside each sequence of a packed batch, without padding.

Source: Vaswani et al., *Attention Is All You Need* (2017), https://arxiv.org/abs/1706.03762.
"""

from __future__ import annotations

import itertools

import torch
from torch.nn import functional as F

from coldpress.ops._define import define


def varlen_attention_reference(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor, scale: float
) -> torch.Tensor:
    """Plain torch, one sequence after the other."""
    out = q.new_empty(q.shape)
    ends = cu_seqlens.tolist()
    for begin, end in itertools.pairwise(ends):
        q1, k1, v1 = (t[begin:end].transpose(0, 1).unsqueeze(0) for t in (q, k, v))
        out[begin:end] = F.scaled_dot_product_attention(q1, k1, v1, scale=scale)[0].transpose(0, 1)
    return out.flatten(1)


def _fake(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor, scale: float) -> torch.Tensor:
    return q.new_empty(q.shape[0], q.shape[1] * q.shape[2])


_varlen_attention = define(
    "varlen_attention(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens, float scale) -> Tensor",
    reference=varlen_attention_reference,
    fake=_fake,
)


def varlen_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor, *, scale: float
) -> torch.Tensor:
    """Return ``softmax(q k^T scale) v`` for each head and sequence.

    Parameters
    ----------
    q, k, v : (T, H, D) float32, T tokens of all sequences one after the other. Views into one fused projection are
        welcome: only heads and widths have to be contiguous.
    cu_seqlens : (B + 1,) int32, sequence b is tokens ``cu_seqlens[b]:cu_seqlens[b + 1]``.
    scale : factor on the scores, usually ``D ** -0.5``.

    Returns
    -------
    (T, H * D) float32. A sequence depends on its own tokens alone, bit for bit.

    Raises
    ------
    ValueError
        If the shapes differ, or `cu_seqlens` is not an int32 vector.
    """
    shapes_fit = q.dim() == 3 and k.shape == q.shape and v.shape == q.shape and cu_seqlens.dim() == 1
    if not shapes_fit or cu_seqlens.dtype != torch.int32:
        raise ValueError(
            f"varlen_attention: got q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, "
            f"cu_seqlens {cu_seqlens.dtype} {tuple(cu_seqlens.shape)}; expected (T, H, D) three times, int32 (B + 1,)"
        )
    return _varlen_attention(q, k, v, cu_seqlens, scale)  # type: ignore[no-any-return]
