"""The two feed-forward blocks of transformers."""

from __future__ import annotations

import torch
from torch import nn

from coldpress import ops
from coldpress.layers.linear import Linear


class Mlp(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, width: int, hidden: int, activation: ops.Activation) -> None:
        super().__init__()
        self.up = Linear(width, hidden, activation)
        self.down = Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (T, D) to (T, D)."""
        up, down = self.up.int8, self.down.int8
        if up is not None and down is not None:
            return ops.mlp_int8(x, up, self.up.bias, down, self.down.bias, self.up.activation)
        out: torch.Tensor = self.down(self.up(x))
        return out


class SwiGlu(nn.Module):
    """Gated feed-forward block: ``down(silu(gate(x)) * up(x))``.

    Source: Shazeer, *GLU Variants Improve Transformer* (2020), https://arxiv.org/abs/2002.05202.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = Linear(width, hidden, "silu")
        self.up = Linear(width, hidden)
        self.down = Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (T, D) to (T, D)."""
        out: torch.Tensor = self.down(self.gate(x) * self.up(x))
        return out
