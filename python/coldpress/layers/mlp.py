"""The feed-forward blocks of transformers."""

from __future__ import annotations

import torch
from torch import nn

from coldpress import ops
from coldpress.layers.linear import Linear
from coldpress.layers.norm import LayerNorm, add_residual


class Mlp(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, width: int, hidden: int, activation: ops.Activation) -> None:
        super().__init__()
        self.up = Linear(width, hidden, activation)
        self.down = Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (T, D) to (T, D)."""
        out: torch.Tensor = self.down(self.inner(x))
        return out

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """Return what `down` maps back, (T, hidden)."""
        out: torch.Tensor = self.up(x)
        return out

    @property
    def in_float8(self) -> bool:
        """Whether both products are."""
        return self.up.codes is not None and self.down.codes is not None

    def of_codes(self, x: ops.Codes) -> torch.Tensor:
        """Map tokens in float8 (T, D) to (T, D) in bfloat16."""
        up = self.up
        assert up.float8 is not None
        product = ops.linear_float8(x, up.float8, None)
        return self.down.of_codes(ops.quantize_rows(product, up.bias, up.activation))

    def residual(self, x: torch.Tensor, norm: LayerNorm, *, norm_first: bool) -> torch.Tensor:
        """Return ``norm(x + self(x))``, or ``x + self(norm(x))``."""
        up, down = self.up.quantized, self.down.quantized
        if up is None or down is None or up.packed.dtype != down.packed.dtype:
            return add_residual(x, self, norm, norm_first=norm_first)
        return ops.mlp_quantized(
            x,
            up,
            self.up.bias,
            down,
            self.down.bias,
            activation=self.up.activation,
            norm=norm.args,
            norm_first=norm_first,
        )


class GatedMlp(nn.Module):
    """Gated feed-forward block: ``down(activation(gate(x)) * up(x))``; SwiGLU with silu, GeGLU with gelu.

    Source: Shazeer, *GLU Variants Improve Transformer* (2020), https://arxiv.org/abs/2002.05202.
    """

    def __init__(self, width: int, hidden: int, activation: ops.Activation) -> None:
        super().__init__()
        self.gate = Linear(width, hidden, activation)
        self.up = Linear(width, hidden)
        self.down = Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (T, D) to (T, D)."""
        out: torch.Tensor = self.down(self.inner(x))
        return out

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """Return what `down` maps back, (T, hidden)."""
        out: torch.Tensor = self.gate(x) * self.up(x)
        return out

    @property
    def in_float8(self) -> bool:
        """Whether all three products are."""
        return all(layer.codes is not None for layer in (self.gate, self.up, self.down))

    def of_codes(self, x: ops.Codes) -> torch.Tensor:
        """Map tokens in float8 (T, D) to (T, D) in bfloat16."""
        return self.down.of_codes(ops.quantize_rows(self.gate.of_codes(x) * self.up.of_codes(x)))

    def residual(self, x: torch.Tensor, norm: LayerNorm, *, norm_first: bool) -> torch.Tensor:
        """Return ``norm(x + self(x))``, or ``x + self(norm(x))``."""
        return add_residual(x, self, norm, norm_first=norm_first)
