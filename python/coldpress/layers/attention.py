"""Multi-head self-attention over a packed batch."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from coldpress import ops
from coldpress.layers.linear import Linear
from coldpress.layers.mlp import Mlp
from coldpress.layers.norm import LayerNorm, add_residual
from coldpress.ops.linear import PANEL

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines (T, D / 2) of the angle by which each packed token turns each pair of values of a head."""


class SelfAttention(nn.Module):
    """One fused projection to queries, keys and values, padding-free attention, one projection back.

    Parameters
    ----------
    width, heads : D, H.
    causal : a token sees itself and those before it.
    """

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.scale = (width // heads) ** -0.5
        self.fused = ops.fits_attention_quantized(width, heads) and not causal
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(
        self,
        x: torch.Tensor,
        cu_seqlens: torch.Tensor,
        rows: torch.Tensor | None = None,
        rotation: Rotation | None = None,
    ) -> torch.Tensor:
        """Map tokens (T, D) of the sequences bounded by `cu_seqlens` to (T, D), or to (B, D): `rows`, one of each."""
        D = x.shape[1]
        if rows is not None and (D % PANEL or self.causal):
            return self.forward(x, cu_seqlens, None, rotation)[rows]
        cu_seqlens_q = None
        if rows is None:
            q, k, v = self.qkv(x).view(len(x), 3, self.heads, -1).unbind(1)
        else:
            q = self.qkv.part(x[rows], 0, D).view(len(rows), self.heads, -1)
            k, v = self.qkv.part(x, D, 3 * D).view(len(x), 2, self.heads, -1).unbind(1)
            cu_seqlens_q = torch.arange(len(cu_seqlens), dtype=torch.int32, device=x.device)
        if rotation is not None:
            q, k = rotate(q, rotation if rows is None else (rotation[0][rows], rotation[1][rows])), rotate(k, rotation)
            v = v.contiguous()  # k has another stride now, and ops take one for both
        if self.causal:
            return self._project(attend_before(q, k, v, cu_seqlens, self.scale))
        words = self.qkv.quantized is not None
        mixed = ops.varlen_attention(q, k, v, cu_seqlens, scale=self.scale, cu_seqlens_q=cu_seqlens_q, words=words)
        return self._project(mixed)

    def _project(self, mixed: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(mixed)
        return out

    def residual(
        self,
        x: torch.Tensor,
        cu_seqlens: torch.Tensor,
        norm: LayerNorm,
        *,
        norm_first: bool,
        rows: torch.Tensor | None = None,
        rotation: Rotation | None = None,
    ) -> torch.Tensor:
        """Return ``norm(x + self(x))``, or ``x + self(norm(x))``, of all tokens or of `rows` alone.

        With quantised weights one op does all of it, one thread a sequence; with fewer sequences than threads the
        separate ops, which share every sequence among all threads, give the same bits sooner.
        """
        qkv, out = self.qkv.quantized, self.out.quantized
        alone = rows is not None or rotation is not None or len(cu_seqlens) <= torch.get_num_threads()
        if qkv is None or out is None or alone or not self.fused or qkv.packed.dtype != out.packed.dtype:
            mix = partial(self, cu_seqlens=cu_seqlens, rows=rows, rotation=rotation)
            return add_residual(x, mix, norm, norm_first=norm_first, rows=rows)
        return ops.attention_quantized(
            x,
            cu_seqlens,
            qkv,
            self.qkv.bias,
            out,
            self.out.bias,
            heads=self.heads,
            scale=self.scale,
            norm=norm.args,
            norm_first=norm_first,
        )


def rotate(x: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Turn the pairs (i, i + D / 2) of each head of packed tokens (T, H, D).

    Source: Su et al., *RoFormer* (2021), https://arxiv.org/abs/2104.09864.
    """
    cos, sin = (table.unsqueeze(1) for table in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attend_before(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor, scale: float
) -> torch.Tensor:
    """Causal attention of packed tokens (T, H, D), one sequence after the other, so that none sees its company."""
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    for begin, end in pairwise(cu_seqlens.tolist()):
        q1, k1, v1 = (t[begin:end].transpose(0, 1).unsqueeze(0) for t in (q, k, v))
        out[begin:end] = F.scaled_dot_product_attention(q1, k1, v1, is_causal=True, scale=scale)[0].transpose(0, 1)
    return out.flatten(1)


class AttentionPool(nn.Module):
    """One learned query to all tokens of a sequence, then a feed-forward block with its residual.

    Source: Zhai et al., *Scaling Vision Transformers* (2021), https://arxiv.org/abs/2106.04560, the MAP head.
    """

    def __init__(self, width: int, heads: int, hidden: int, activation: ops.Activation, eps: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.probe = nn.Parameter(torch.empty(1, width), requires_grad=False)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.norm = LayerNorm(width, eps)
        self.mlp = Mlp(width, hidden, activation)

    def forward(self, x: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
        """Map tokens (T, D) to (B, D)."""
        B, D = len(cu_seqlens) - 1, x.shape[1]
        if D % PANEL:
            q, kv = self.qkv(self.probe)[:, :D], self.qkv(x)[:, D:]
        else:
            q, kv = self.qkv.part(self.probe, 0, D), self.qkv.part(x, D, 3 * D)
        k, v = kv.view(len(x), 2, self.heads, -1).unbind(1)
        q = q.view(1, self.heads, -1).expand(B, -1, -1).contiguous()
        one_each = torch.arange(B + 1, dtype=torch.int32, device=x.device)
        words = self.qkv.quantized is not None
        pooled = self.out(
            ops.varlen_attention(q, k, v, cu_seqlens, scale=self.scale, cu_seqlens_q=one_each, words=words)
        )
        return self.mlp.residual(pooled, self.norm, norm_first=True)
