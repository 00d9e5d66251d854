"""Multi-head self-attention over a packed batch."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

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
    window : how many tokens to its left and right a token sees.
    """

    def __init__(self, width: int, heads: int, *, window: ops.Window = ops.EVERYWHERE) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.scale = (width // heads) ** -0.5
        self.fused = ops.fits_attention_quantized(width, heads) and window == ops.EVERYWHERE
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(
        self,
        x: torch.Tensor | ops.Codes,
        cu_seqlens: torch.Tensor,
        rows: torch.Tensor | None = None,
        rotation: Rotation | None = None,
        bias: torch.Tensor | None = None,
        key_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map tokens (T, D) of the sequences bounded by `cu_seqlens` to (T, D), or to (B, D): `rows`, one of each.

        Tokens may come in float8, where the layer was prepared so.

        `bias` (H, 2 R + 1) is added to scores by distance, `key_bias` (T,) to those of each key, see
        :func:`coldpress.ops.varlen_attention`.
        """
        everywhere = self.window == ops.EVERYWHERE and bias is None and self.qkv.codes is None
        if rows is not None and everywhere and isinstance(x, torch.Tensor) and x.shape[1] % PANEL == 0:
            mixed = self._mix_rows(x, cu_seqlens, rows, rotation, key_bias)
        else:
            mixed = self._mix(x, cu_seqlens, rotation, bias, key_bias)
            mixed = mixed if rows is None else mixed[rows]
        out: torch.Tensor = self.out(mixed)
        return out

    def _mix(
        self,
        x: torch.Tensor | ops.Codes,
        cu_seqlens: torch.Tensor,
        rotation: Rotation | None,
        bias: torch.Tensor | None,
        key_bias: torch.Tensor | None,
    ) -> torch.Tensor:
        qkv, H = self.qkv.of_codes(x) if isinstance(x, ops.Codes) else self.qkv(x), self.heads
        T = len(qkv)
        qkv = qkv.view(T, 3 * H, -1)
        if rotation is not None:
            ops.rope_(qkv[:, : 2 * H], *rotation)
        q, k, v = qkv.view(T, 3, H, -1).unbind(1)
        words = self.qkv.quantized is not None
        return ops.varlen_attention(
            q,
            k,
            v,
            cu_seqlens,
            scale=self.scale,
            words=words,
            window=self.window,
            bias=bias,
            key_bias=key_bias,
        )

    def _mix_rows(
        self,
        x: torch.Tensor,
        cu_seqlens: torch.Tensor,
        rows: torch.Tensor,
        rotation: Rotation | None,
        key_bias: torch.Tensor | None,
    ) -> torch.Tensor:
        D, H = x.shape[1], self.heads
        q = self.qkv.part(x[rows], 0, D).view(len(rows), H, -1)
        kv = self.qkv.part(x, D, 3 * D).view(len(x), 2 * H, -1)
        if rotation is not None:
            ops.rope_(q, *(table[rows] for table in rotation))
            ops.rope_(kv[:, :H], *rotation)
        k, v = kv.view(len(x), 2, H, -1).unbind(1)
        one_each = torch.arange(len(cu_seqlens), dtype=torch.int32, device=x.device)
        words = self.qkv.quantized is not None
        return ops.varlen_attention(
            q, k, v, cu_seqlens, scale=self.scale, cu_seqlens_q=one_each, words=words, key_bias=key_bias
        )

    def residual(
        self,
        x: torch.Tensor,
        cu_seqlens: torch.Tensor,
        norm: LayerNorm,
        *,
        norm_first: bool,
        rows: torch.Tensor | None = None,
        rotation: Rotation | None = None,
        bias: torch.Tensor | None = None,
        key_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return ``norm(x + self(x))``, or ``x + self(norm(x))``, of all tokens or of `rows` alone.

        With quantised weights one op does all of it, one thread a sequence; with fewer sequences than threads the
        separate ops, which share every sequence among all threads, give the same bits sooner.
        """
        qkv, out = self.qkv.quantized, self.out.quantized
        placed = rotation is not None or bias is not None or not self.fused
        alone = placed or rows is not None or len(cu_seqlens) <= torch.get_num_threads()
        if qkv is None or out is None or alone or qkv.packed.dtype != out.packed.dtype:
            mix = partial(self, cu_seqlens=cu_seqlens, rows=rows, rotation=rotation, bias=bias, key_bias=key_bias)
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
            key_bias=key_bias,
        )


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

    def forward(self, x: torch.Tensor, cu_seqlens: torch.Tensor, key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """Map tokens (T, D) to (B, D); `key_bias` (T,) is added to their scores."""
        B, D = len(cu_seqlens) - 1, x.shape[1]
        if D % PANEL or self.qkv.codes is not None:
            q, kv = self.qkv(self.probe)[:, :D], self.qkv(x)[:, D:]
        else:
            q, kv = self.qkv.part(self.probe, 0, D), self.qkv.part(x, D, 3 * D)
        k, v = kv.view(len(x), 2, self.heads, -1).unbind(1)
        q = q.view(1, self.heads, -1).expand(B, -1, -1).contiguous()
        one_each = torch.arange(B + 1, dtype=torch.int32, device=x.device)
        words = self.qkv.quantized is not None
        mixed = ops.varlen_attention(
            q, k, v, cu_seqlens, scale=self.scale, cu_seqlens_q=one_each, words=words, key_bias=key_bias
        )
        pooled = self.out(mixed)
        return self.mlp.residual(pooled, self.norm, norm_first=True)
