"""How close a kernel has to come: a multiple of torch's own float32 error, both against float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from coldpress import _library

TAILS = (1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100)

K = 4
"""One chain of additions over k (ours) against torch's blocked sums: measured ratios stay below 2.5."""


def widen(value: Any) -> Any:
    """Turn float32 tensors into float64, leave everything else."""
    return value.double() if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value


def assert_within_k(ours: torch.Tensor, reference: Callable[..., Any], *args: Any, pick: int | None = None) -> None:
    """Check that `ours` is at most K times as far from the float64 reference as the float32 reference is."""
    exact, framework = reference(*map(widen, args)), reference(*args)
    if pick is not None:
        exact, framework = exact[pick], framework[pick]
    assert ours.shape == exact.shape
    if exact.numel() == 0:
        return
    floor = 4 * torch.finfo(torch.float32).eps * max(float(exact.abs().max()), 1e-30)
    error, allowed = (ours - exact).abs().max(), K * (framework - exact).abs().max() + floor
    assert error <= allowed, f"{error:.3g} > {allowed:.3g}"


def on_every_level(run: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Run on each ISA level, check that all give the same bits, and return them."""
    results = []
    for level in _library.isa_levels():
        with _library.use_isa(level):
            results.append(run())
    for level, result in zip(_library.isa_levels(), results, strict=True):
        assert torch.equal(result.nan_to_num(7.5), results[0].nan_to_num(7.5)), level
        assert torch.equal(result.isnan(), results[0].isnan()), level
    return results[-1]
