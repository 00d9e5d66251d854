"""Layer normalisation with frozen weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from coldpress import ops


class LayerNorm(nn.Module):
    """Normalise tokens (T, D); :meth:`add` also takes the residual in the same pass."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(width), requires_grad=False)

    @property
    def args(self) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Weight, bias and epsilon, as the fused ops take them."""
        return self.weight, self.bias, self.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised tokens."""
        return ops.layer_norm(x, self.weight, self.bias, self.eps)

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the normalised sum and the sum."""
        return ops.add_layer_norm(x, residual, self.weight, self.bias, self.eps)


def add_residual(
    x: torch.Tensor,
    layer: Callable[[torch.Tensor], torch.Tensor],
    norm: LayerNorm,
    *,
    norm_first: bool,
    rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return ``norm(x + layer(x))``, or ``x + layer(norm(x))``; `rows` are those that the layer returns, if not all."""
    kept = x if rows is None else x[rows]
    return layer(norm(x)) + kept if norm_first else norm.add(layer(x), kept)[0]
