"""What the closed scores need of features: sums over all items, from two passes over their blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.probes.features import Features

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """Of N items in K classes, all float64, features after their mean has been subtracted.

    Attributes
    ----------
    counts : (K,), items of each class.
    mean : (D,), what was subtracted.
    sums : (K, D), of the features of each class.
    gram : (D, D), of ``x x^T`` over all items.
    quartic : of ``|x|^4`` over all items.
    dim : of the space that the features were in before they were turned into that of the items; else D.
    """

    counts: Array
    mean: Array
    sums: Array
    gram: Array
    quartic: float
    dim: int

    @classmethod
    def of(cls, features: Features, codes: npt.NDArray[np.int64], columns: int, dim: int | None = None) -> ClassMoments:
        """Of features (N, D) and their classes (N,), each of the `columns` from 0 on."""
        mean = features.mean()
        sums, gram, quartic = np.zeros((columns, features.dim)), np.zeros((features.dim, features.dim)), 0.0
        for rows, block in features.blocks():
            x = block.astype(np.float64) - mean
            np.add.at(sums, codes[rows], x)
            gram += x.T @ x
            quartic += float(((x**2).sum(axis=1) ** 2).sum())
        counts = np.bincount(codes, minlength=columns).astype(np.float64)
        return cls(counts, mean, sums, gram, quartic, dim or features.dim)

    @property
    def items(self) -> float:
        """N."""
        return float(self.counts.sum())

    @property
    def between(self) -> Array:
        """(D, D), covariance of the class means, each class with its share of the items."""
        means = self.sums / np.maximum(self.counts, 1)[:, None]
        return np.asarray((means.T * self.counts) @ means / self.items)
