"""Multi-head self-attention over a packed batch."""

from __future__ import annotations

import torch
from torch import nn

from coldpress import ops
from coldpress.layers.linear import Linear


class SelfAttention(nn.Module):
    """One fused projection to queries, keys and values, padding-free attention, one projection back."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(self, x: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
        """Map tokens (T, D) of the sequences bounded by `cu_seqlens` to (T, D)."""
        q, k, v = self.qkv(x).view(len(x), 3, self.heads, -1).unbind(1)
        mixed: torch.Tensor = self.out(ops.varlen_attention(q, k, v, cu_seqlens, scale=self.scale))
        return mixed
