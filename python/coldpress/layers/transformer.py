"""The pre-norm block that vision transformers and the text towers beside them are made of."""

from __future__ import annotations

import torch
from torch import nn

from coldpress import ops
from coldpress.layers.attention import Rotation, SelfAttention
from coldpress.layers.mlp import Mlp, SwiGlu
from coldpress.layers.norm import LayerNorm


class PreNormBlock(nn.Module):
    """Normalisation, then attention or feed-forward, then the residual.

    Parameters
    ----------
    width, heads, hidden : D, H, and the width between the two linears of the feed-forward block.
    activation, eps : of the feed-forward block, of both normalisations.
    gated : SwiGLU instead of `activation`.
    layer_scale : each half is multiplied by learned factors; see :meth:`prepare`.
    causal : see :class:`SelfAttention`.
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
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(width, eps)
        self.attention = SelfAttention(width, heads, causal=causal)
        self.mlp_norm = LayerNorm(width, eps)
        self.mlp: SwiGlu | Mlp = SwiGlu(width, hidden) if gated else Mlp(width, hidden, activation)
        if layer_scale:
            self.attention_scale = nn.Parameter(torch.ones(width), requires_grad=False)
            self.mlp_scale = nn.Parameter(torch.ones(width), requires_grad=False)

    def forward(
        self,
        x: torch.Tensor,
        cu_seqlens: torch.Tensor,
        rows: torch.Tensor | None = None,
        rotation: Rotation | None = None,
    ) -> torch.Tensor:
        """Map tokens (T, D) to (T, D), or to (B, D): `rows`, one of each sequence."""
        if self.attention.qkv.quantized is None:  # the residual of one half rides with the normalisation of the other
            mixed = self.attention(self.attention_norm(x), cu_seqlens, rows, rotation)
            normed, x = self.mlp_norm.add(mixed, x if rows is None else x[rows])
            out: torch.Tensor = self.mlp(normed) + x
            return out
        x = self.attention.residual(x, cu_seqlens, self.attention_norm, norm_first=True, rows=rows, rotation=rotation)
        return self.mlp.residual(x, self.mlp_norm, norm_first=True)

    def fold_layer_scale(self) -> None:
        """Multiply the layer scales into the projections that they follow, and drop them."""
        if not hasattr(self, "attention_scale"):
            return
        with torch.no_grad():
            for scale, linear in ((self.attention_scale, self.attention.out), (self.mlp_scale, self.mlp.down)):
                linear.weight.mul_(scale.unsqueeze(1))
                linear.bias.mul_(scale)
        del self.attention_scale, self.mlp_scale
