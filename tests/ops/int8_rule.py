"""How close an int8 op has to come: to the float32 reference of itself, and to the float64 product it stands for."""

from __future__ import annotations

import torch

from coldpress import ops


def packed(N: int, K: int) -> tuple[torch.Tensor, ops.PackedInt8, torch.Tensor]:
    """A weight (N, K) whose products have unit scale, packed, and a bias (N,)."""
    weight = torch.randn(N, K) / max(K, 1) ** 0.5
    return weight, ops.pack_weight_int8(weight), torch.randn(N)


def assert_close(ours: torch.Tensor, reference: torch.Tensor, *, steps: float) -> None:
    """Check for equality up to rounding and `steps`, what one step of a quantised value between them may change."""
    assert ours.shape == reference.shape
    if not reference.numel():
        return
    rounding = 16 * torch.finfo(torch.float32).eps * max(float(reference.abs().max()), 1.0)
    assert float((ours - reference).abs().max()) <= rounding + steps
