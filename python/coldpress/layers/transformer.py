"""The blocks that transformers are made of: normalisation in front of each half, or behind it."""

from __future__ import annotations

import torch
from torch import nn

from coldpress import ops
from coldpress.layers.attention import Rotation, SelfAttention
from coldpress.layers.mlp import GatedMlp, Mlp
from coldpress.layers.norm import LayerNorm
from coldpress.ops.residual_norm import fits_residual_norm


class PreNormBlock(nn.Module):
    """Normalisation, then attention or feed-forward, then the residual.

    Parameters
    ----------
    width, heads, hidden : D, H, and the width between the two linears of the feed-forward block.
    activation, eps : of the feed-forward block, of both normalisations.
    gated : the feed-forward block has a gate, see :class:`GatedMlp`.
    layer_scale : each half is multiplied by learned factors; see :meth:`fold_layer_scale`.
    window : see :class:`SelfAttention`.
    bare : there is no normalisation in front of attention.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        activation: ops.Activation,
        eps: float,
        gated: bool = False,
        layer_scale: bool = False,
        window: ops.Window = ops.EVERYWHERE,
        bare: bool = False,
    ) -> None:
        super().__init__()
        self.attention_norm = None if bare else LayerNorm(width, eps)
        self.attention = SelfAttention(width, heads, window=window)
        self.mlp_norm = LayerNorm(width, eps)
        self.mlp = _feed_forward(width, hidden, activation, gated=gated)
        if layer_scale:
            self.attention_scale = nn.Parameter(torch.ones(width), requires_grad=False)
            self.mlp_scale = nn.Parameter(torch.ones(width), requires_grad=False)

    def forward(
        self,
        x: torch.Tensor,
        cu_seqlens: torch.Tensor,
        rows: torch.Tensor | None = None,
        rotation: Rotation | None = None,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map tokens (T, D) to (T, D), or to (B, D): `rows`, one of each sequence."""
        if self.attention.qkv.quantized is not None and self.attention_norm is not None:
            norm = self.attention_norm
            x = self.attention.residual(x, cu_seqlens, norm, norm_first=True, rows=rows, rotation=rotation, bias=bias)
            return self.mlp.residual(x, self.mlp_norm, norm_first=True)
        if self.attention.qkv.codes is not None and self.mlp.in_float8 and fits_residual_norm(x.shape[1]):
            return self._float8(x, cu_seqlens, rows, rotation, bias)
        inputs = x if self.attention_norm is None else self.attention_norm(x)
        mixed = self.attention(inputs, cu_seqlens, rows, rotation, bias)
        # the residual of one half rides with the normalisation of the other
        kept = x if rows is None else x[rows]
        down = self.mlp.down
        if (
            down.codes is None
            and down.weight.dtype == kept.dtype != torch.float32
            and fits_residual_norm(kept.shape[1])
        ):
            return self._onto_residual(mixed, kept)
        normed, x = self.mlp_norm.add(mixed, kept)
        out: torch.Tensor = self.mlp(normed) + x
        return out

    def _float8(
        self,
        x: torch.Tensor,
        cu_seqlens: torch.Tensor,
        rows: torch.Tensor | None,
        rotation: Rotation | None,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        """The same where every product is in float8: what comes out of a normalisation is quantised in there."""
        norm = self.attention_norm
        inputs = x if norm is None else ops.norm_quantized(x, norm.args)[0]
        mixed = self.attention(inputs, cu_seqlens, rows, rotation, bias)
        kept = x if rows is None else x[rows]
        codes, summed = ops.norm_quantized(mixed, self.mlp_norm.args, kept)
        return self.mlp.of_codes(codes).add_(summed)

    def _onto_residual(self, mixed: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """The feed-forward half in 16 bits: its last product is added to the residual, where its bias waits for it."""
        down = self.mlp.down
        normed, shifted = ops.residual_norm(mixed, kept, self.mlp_norm.args, down.bias)
        return shifted.addmm_(self.mlp.inner(normed), down.weight.T)

    def fold_layer_scale(self) -> None:
        """Multiply the layer scales into the projections that they follow, and drop them."""
        if not hasattr(self, "attention_scale"):
            return
        with torch.no_grad():
            for scale, linear in ((self.attention_scale, self.attention.out), (self.mlp_scale, self.mlp.down)):
                linear.weight.mul_(scale.unsqueeze(1))
                linear.bias.mul_(scale)
        del self.attention_scale, self.mlp_scale


class PostNormBlock(nn.Module):
    """Attention and feed-forward, each followed by residual and normalisation; parameters as of the other block."""

    def __init__(
        self, width: int, heads: int, hidden: int, *, activation: ops.Activation, eps: float, gated: bool = False
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.attention_norm = LayerNorm(width, eps)
        self.mlp = _feed_forward(width, hidden, activation, gated=gated)
        self.mlp_norm = LayerNorm(width, eps)

    def forward(
        self,
        x: torch.Tensor,
        cu_seqlens: torch.Tensor,
        rows: torch.Tensor | None = None,
        rotation: Rotation | None = None,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map tokens (T, D) to (T, D), or to (B, D): `rows`, one of each sequence."""
        norm = self.attention_norm
        x = self.attention.residual(x, cu_seqlens, norm, norm_first=False, rows=rows, rotation=rotation, bias=bias)
        return self.mlp.residual(x, self.mlp_norm, norm_first=False)


def _feed_forward(width: int, hidden: int, activation: ops.Activation, *, gated: bool) -> GatedMlp | Mlp:
    return GatedMlp(width, hidden, activation) if gated else Mlp(width, hidden, activation)
