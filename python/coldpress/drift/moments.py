"""Mean and covariance of any number of rows in bounded memory, and how far apart two of them are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

ROUNDING = 1e-6
"""Of the mean: a dimension that varies less is constant, and the rest is what is left of float32."""


@dataclass(frozen=True, eq=False, slots=True)
class Moments:
    """Of N rows: `count`, `mean` (D,) and `scatter` (D, D), the sum of the products about the mean."""

    count: int
    mean: Doubles
    scatter: Doubles

    @property
    def covariance(self) -> Doubles:
        """(D, D), unbiased; N at least 2."""
        return np.asarray(self.scatter / (self.count - 1))

    @property
    def spread(self) -> Doubles:
        """Standard deviation of each dimension, (D,)."""
        return np.asarray(np.sqrt(np.maximum(np.diagonal(self.scatter), 0) / (self.count - 1)))


class MomentSums:
    """What moments follow from: products in float32 about the mean of the first block, their sums in float64."""

    def __init__(self, dim: int) -> None:
        self._count, self._origin = 0, np.zeros(dim, np.float32)
        self._total, self._products = np.zeros(dim), np.zeros((dim, dim))

    def add(self, block: Floats) -> None:
        """Take in some rows (n, D), n at least 1."""
        if self._count == 0:
            self._origin = block.mean(axis=0)
        x = block - self._origin
        self._count += len(x)
        self._total += x.sum(axis=0, dtype=np.float64)
        self._products += x.T @ x

    def moments(self) -> Moments:
        """Of all rows so far."""
        mean = self._total / self._count
        scatter = self._products - self._count * np.outer(mean, mean)
        return Moments(self._count, mean + self._origin, scatter)


def standardised_shift(reference: Moments, new: Moments) -> Doubles:
    """By how many standard deviations of the reference each dimension has moved, (D,); 0 where neither varies."""
    difference, least = new.mean - reference.mean, ROUNDING * np.abs(reference.mean)
    spread = np.where(reference.spread > least, reference.spread, new.spread)
    return np.divide(difference, spread, out=np.zeros_like(difference), where=spread > least)


def frechet_distance(one: Moments, other: Moments) -> float:
    """The Frechet distance of normal distributions with these moments, squared as usual: ``|m - n|^2 + tr(...)``."""
    values, vectors = np.linalg.eigh(one.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    inner = np.linalg.eigvalsh(root @ other.covariance @ root)
    both = np.trace(one.covariance) + np.trace(other.covariance) - 2 * np.sqrt(np.maximum(inner, 0)).sum()
    return float(((one.mean - other.mean) ** 2).sum() + max(0.0, both))
