"""How close an op on integers has to come: to its float32 reference, and to the float64 product it stands for."""

from __future__ import annotations

from typing import Literal

import torch

from coldpress import ops

Mode = Literal["int8", "int16"]
MODES: tuple[Mode, ...] = ("int8", "int16")


def packed(N: int, K: int, mode: Mode = "int8") -> tuple[torch.Tensor, ops.QuantizedWeight, torch.Tensor]:
    """A weight (N, K) whose products have unit scale, packed, and a bias (N,)."""
    weight = torch.randn(N, K) / max(K, 1) ** 0.5
    return weight, ops.quantize_weight(weight, mode), torch.randn(N)


def assert_close(ours: torch.Tensor, reference: torch.Tensor, *, steps: float) -> None:
    """Check for equality up to rounding and `steps`, what one step of a quantised value between them may change."""
    assert ours.shape == reference.shape
    if not reference.numel():
        return
    rounding = 16 * torch.finfo(torch.float32).eps * max(float(reference.abs().max()), 1.0)
    assert float((ours - reference).abs().max()) <= rounding + steps
