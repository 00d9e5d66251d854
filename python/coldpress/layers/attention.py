"""Multi-head self-attention over a packed batch."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from coldpress import ops
from coldpress.layers.linear import Linear
from coldpress.layers.norm import LayerNorm, add_residual
from coldpress.ops.linear import PANEL


class SelfAttention(nn.Module):
    """One fused projection to queries, keys and values, padding-free attention, one projection back."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.fused = ops.fits_attention_quantized(width, heads)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(self, x: torch.Tensor, cu_seqlens: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        """Map tokens (T, D) of the sequences bounded by `cu_seqlens` to (T, D), or to (B, D): `rows`, one of each."""
        D = x.shape[1]
        if rows is not None and D % PANEL:
            return self.forward(x, cu_seqlens)[rows]
        cu_seqlens_q = None
        if rows is None:
            q, k, v = self.qkv(x).view(len(x), 3, self.heads, -1).unbind(1)
        else:
            q = self.qkv.part(x[rows], 0, D).view(len(rows), self.heads, -1)
            k, v = self.qkv.part(x, D, 3 * D).view(len(x), 2, self.heads, -1).unbind(1)
            cu_seqlens_q = torch.arange(len(cu_seqlens), dtype=torch.int32, device=x.device)
        words = self.qkv.quantized is not None
        mixed = ops.varlen_attention(q, k, v, cu_seqlens, scale=self.scale, cu_seqlens_q=cu_seqlens_q, words=words)
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
    ) -> torch.Tensor:
        """Return ``norm(x + self(x))``, or ``x + self(norm(x))``, of all tokens or of `rows` alone.

        With quantised weights one op does all of it, one thread a sequence; with fewer sequences than threads the
        separate ops, which share every sequence among all threads, give the same bits sooner.
        """
        qkv, out = self.qkv.quantized, self.out.quantized
        alone = rows is not None or len(cu_seqlens) <= torch.get_num_threads()
        if qkv is None or out is None or alone or not self.fused or qkv.packed.dtype != out.packed.dtype:
            mix = partial(self, cu_seqlens=cu_seqlens, rows=rows)
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
