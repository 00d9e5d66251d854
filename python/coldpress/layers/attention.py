"""Multi-head self-attention over a packed batch."""

from __future__ import annotations

import torch
from torch import nn

from coldpress import ops
from coldpress.layers.linear import Linear
from coldpress.layers.norm import LayerNorm, add_residual


class SelfAttention(nn.Module):
    """One fused projection to queries, keys and values, padding-free attention, one projection back."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.fits_int8 = ops.fits_attention_int8(width, heads)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(self, x: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
        """Map tokens (T, D) of the sequences bounded by `cu_seqlens` to (T, D)."""
        q, k, v = self.qkv(x).view(len(x), 3, self.heads, -1).unbind(1)
        mixed: torch.Tensor = self.out(ops.varlen_attention(q, k, v, cu_seqlens, scale=self.scale))
        return mixed

    def residual(self, x: torch.Tensor, cu_seqlens: torch.Tensor, norm: LayerNorm, *, norm_first: bool) -> torch.Tensor:
        """Return ``norm(x + self(x))``, or ``x + self(norm(x))``.

        In int8 one op does all of it, one thread a sequence; with fewer sequences than threads the separate ops, which
        share every sequence among all threads, give the same bits sooner.
        """
        qkv, out = self.qkv.int8, self.out.int8
        if qkv is None or out is None or not self.fits_int8 or len(cu_seqlens) <= torch.get_num_threads():
            return add_residual(x, lambda inputs: self(inputs, cu_seqlens), norm, norm_first=norm_first)
        return ops.attention_int8(
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
