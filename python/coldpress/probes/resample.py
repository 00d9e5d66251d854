"""Intervals by resampling: how far a measure would move with other test items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]
RESAMPLES = 1000


def resamples(items: int, rng: np.random.Generator, count: int = RESAMPLES) -> Iterator[npt.NDArray[np.int64]]:
    """How often each item (N,) occurs in each of `count` samples of N, drawn with replacement."""
    return (np.bincount(rng.integers(0, items, items), minlength=items) for _ in range(count))


def interval(values: npt.NDArray[Any]) -> Interval:
    """The middle 95 % of a measure over the samples; those in which it is not defined count not."""
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)
