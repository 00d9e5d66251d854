"""Layer normalisation with frozen weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from coldpress import ops
from coldpress.ops.residual_norm import fits_residual_norm


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

    def after(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Return the normalised sum alone."""
        if self.weight.dtype == torch.float32 or not fits_residual_norm(len(self.weight)):
            return self.add(x, residual)[0]
        return ops.residual_norm(x, residual, self.args)[0]


class GlobalResponseNorm(nn.Module):
    """Scale every channel by how strongly it responds over an image, compared with the other channels.

    Source: Woo et al., *ConvNeXt V2* (2023), https://arxiv.org/abs/2301.00808.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(width), requires_grad=False)

    def forward(self, x: torch.Tensor, items: int) -> torch.Tensor:
        """Map the tokens (T, D) of so many images of one size to (T, D); in place.

        Both averages are taken by the pooling op, so that an image keeps its bits in any company.
        """
        D, tokens = x.shape[1], len(x) // items
        response = (ops.pool(x.square(), _bounds(items, tokens, x), "mean") * tokens).sqrt_()
        average = ops.pool(response.view(-1, 1), _bounds(items, D, x), "mean")
        scale = self.weight * (response / (average + 1e-6)) + 1
        return x.view(items, tokens, D).mul_(scale.unsqueeze(1)).add_(self.bias).flatten(0, 1)


def _bounds(items: int, size: int, like: torch.Tensor) -> torch.Tensor:
    return torch.arange(items + 1, dtype=torch.int32, device=like.device) * size


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
    return layer(norm(x)) + kept if norm_first else norm.after(layer(x), kept)
