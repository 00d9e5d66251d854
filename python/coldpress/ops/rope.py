"""Rotary position embedding, in place.

Source: Su et al., *RoFormer: Enhanced Transformer with Rotary Position Embedding* (2021),
https://arxiv.org/abs/2104.09864, in the layout of GPT-NeoX: value i of a head is paired with value i + D / 2.
"""

from __future__ import annotations

import torch

from coldpress.ops._define import define


def rope_reference(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Plain torch."""
    first, second = x.chunk(2, dim=-1)
    c, s = cos.unsqueeze(1), sin.unsqueeze(1)
    x.copy_(torch.cat([first * c - second * s, second * c + first * s], dim=-1))


_rope = define(
    "rope_(Tensor(a!) x, Tensor cos, Tensor sin) -> ()",
    reference=rope_reference,
    fake=lambda *_: None,
    compiled=("CPU", "CUDA"),
)


def rope_(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Turn each pair of values of every head by the angle of its token; `x` is changed.

    Parameters
    ----------
    x : (T, H, D) float32, on a GPU float16 and bfloat16 too; a view into a fused projection if you like: only heads
        and widths have to be contiguous.
    cos, sin : (T, D / 2) float32, of the angles. A token with cosines of one and sines of zero keeps its values.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if x.dim() != 3 or cos.shape != sin.shape or (x.shape[0], x.shape[2]) != (len(cos), 2 * cos.shape[-1]):
        raise ValueError(
            f"rope_: got x {tuple(x.shape)}, cos {tuple(cos.shape)}, sin {tuple(sin.shape)}; "
            "expected (T, H, D) and (T, D / 2) twice"
        )
    _rope(x, cos, sin)
