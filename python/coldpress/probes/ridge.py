"""Ridge regression on numbers: every strength of regularisation from one pass over the rows and one Gram matrix.

As for the heads of :mod:`coldpress.probes.closed`, what a fold is trained on is the total without that fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.probes.candidates import Candidate, candidate
from coldpress.probes.closed import ALPHAS
from coldpress.probes.features import Features

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Products:
    """Sums over some rows: how many; of x (D,) and y; of ``x x^T`` (D, D) and ``x y`` (D,). All float64."""

    rows: float
    x: Array
    y: float
    xx: Array
    xy: Array

    def __add__(self, other: Products) -> Products:
        return Products(
            self.rows + other.rows, self.x + other.x, self.y + other.y, self.xx + other.xx, self.xy + other.xy
        )

    def __sub__(self, other: Products) -> Products:
        return Products(
            self.rows - other.rows, self.x - other.x, self.y - other.y, self.xx - other.xx, self.xy - other.xy
        )

    @property
    def scatter(self) -> Array:
        """Of x about its mean, (D, D)."""
        return np.asarray(self.xx - np.outer(self.x, self.x) / self.rows)


@dataclass(frozen=True, eq=False)
class Ridge:
    """Sums for each fold, from which the fits for all strengths follow."""

    features: Features
    targets: Array
    folds: Array
    parts: tuple[Products, ...]

    @classmethod
    def of(cls, features: Features, targets: Array, folds: Array) -> Ridge:
        """Read the rows once: N features, targets (N,), and the fold (N,) in which each is held out."""
        zero = np.zeros(features.dim)
        parts = [Products(0.0, zero, 0.0, np.zeros((features.dim, features.dim)), zero)] * (int(folds.max()) + 1)
        for rows, block in features.blocks():
            for fold in np.unique(folds[rows]).tolist():
                inside = folds[rows] == fold
                x, y = block[inside].astype(np.float64), targets[rows][inside]
                parts[fold] += Products(len(x), x.sum(axis=0), y.sum(), x.T @ x, x.T @ y)
        return cls(features, targets, folds, tuple(parts))

    @property
    def total(self) -> Products:
        """Of all rows."""
        return reduce(Products.__add__, self.parts)

    @property
    def alphas(self) -> tuple[float, ...]:
        """What is compared, rising: multiples of the mean eigenvalue, so that they mean the same at any scale."""
        scatter = self.total.scatter
        return tuple(float(alpha * np.trace(scatter) / len(scatter)) for alpha in ALPHAS)

    def fit(self, alpha: float) -> tuple[Array, Array]:
        """Weights (1, D) and intercept (1,) of scikit-learn's Ridge, with all rows."""
        W, b = _solve(self.total, (alpha,))
        return W, b

    def search(self, alphas: Sequence[float]) -> tuple[Candidate, ...]:
        """Each alpha in cross-validation: R^2 and the mean squared error."""
        found = np.zeros((len(self.parts), 2, len(alphas)))
        for fold, part in enumerate(self.parts):
            W, b = _solve(self.total - part, alphas)
            mine = np.flatnonzero(self.folds == fold)
            errors = np.zeros(len(alphas))
            for rows, block in self.features.take(mine).blocks():
                errors += ((block @ W.T + b - self.targets[mine[rows]][:, None]) ** 2).sum(axis=0)
            own = self.targets[mine]
            # Of equal numbers there is nothing to explain: 0, as scikit-learn has it, or they would decide alone.
            explained = 1 - errors / ((own - own.mean()) ** 2).sum() if np.ptp(own) > 0 else np.zeros(len(alphas))
            found[fold] = explained, errors / len(mine)
        return tuple(candidate("ridge", a, found[:, 0, i], found[:, 1, i]) for i, a in enumerate(alphas))


def _solve(sums: Products, alphas: Sequence[float]) -> tuple[Array, Array]:
    """Weights (S, D) and intercepts (S,): the minima of ``|y - Xw - b|^2 + alpha |w|^2``."""
    mean, level = sums.x / sums.rows, sums.y / sums.rows
    values, vectors = np.linalg.eigh(sums.scatter)
    turned = vectors.T @ (sums.xy - sums.x * level)
    strengths = np.maximum(values, 0) + np.asarray(alphas)[:, None]  # all 0 where all vectors are equal
    W = np.divide(turned, strengths, out=np.zeros_like(strengths), where=strengths > 0) @ vectors.T
    return W, level - W @ mean


def estimator(coef: Array, intercept: Array, alpha: float) -> Any:
    """A Ridge of scikit-learn with these weights, as if it had fitted them."""
    from sklearn.linear_model import Ridge as ScikitRidge

    fitted = ScikitRidge(alpha=alpha)
    fitted.coef_, fitted.intercept_ = coef[0], float(intercept[0])
    fitted.n_features_in_ = coef.shape[1]
    return fitted
