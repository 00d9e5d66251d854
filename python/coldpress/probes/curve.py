"""The learning curve: what more labels would bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.probes.resample import Interval

Array = npt.NDArray[Any]

Learner = Callable[[Array], float]
"""Of training items (indices): accuracy on the test part."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Accuracy with so many labels a class: mean and spread (low, high) over draws; `per_class` None means all."""

    per_class: int | None
    items: int
    accuracy: float
    spread: Interval


def learning_curve(codes: Array, learn: Learner, *, repeats: int = 5, seed: int = 0) -> tuple[CurvePoint, ...]:
    """Accuracy over 1, 2, 4, ... labels a class and all; each but the last drawn `repeats` times.

    The setting is the one that all labels have chosen: with few labels a stronger regularisation might do better, so
    that the left end of the curve is a lower bound.

    Parameters
    ----------
    codes : (N,), the classes of the training items, from 0 on. A class with fewer items gives all that it has.
    learn : trains on some of them.
    """
    rng = np.random.default_rng(seed)
    largest, points = int(np.bincount(codes).max()), []
    for per_class in [2**power for power in range(largest.bit_length()) if 2**power < largest]:
        drawn = []
        for _ in range(repeats):
            order = rng.permutation(len(codes))
            ranks = np.empty(len(codes), dtype=int)
            for label in np.unique(codes):
                members = order[codes[order] == label]
                ranks[members] = np.arange(len(members))
            drawn.append(np.flatnonzero(ranks < per_class))
        scores = [learn(rows) for rows in drawn]
        points.append(CurvePoint(per_class, len(drawn[0]), float(np.mean(scores)), (min(scores), max(scores))))
    everything = learn(np.arange(len(codes)))
    return (*points, CurvePoint(None, len(codes), everything, (everything, everything)))
