"""Heads with a closed form: ridge, linear discriminants and nearest centroids, from one pass over the rows.

All three are functions of how many rows a class has, of their sum, and of the sum of ``x x^T`` over all rows. These
add up, so what a fold is trained on is the total without that fold; and the eigenvectors of its covariance give the
weights for every strength of regularisation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.probes.candidates import Candidate, candidate
from coldpress.probes.features import Features
from coldpress.probes.logistic import class_weights

Array = npt.NDArray[Any]
Settings = tuple[float | None, ...]

SHRINKAGES = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
ALPHAS = tuple(10.0 ** (exponent / 2) for exponent in range(-10, 7))
"""Of the mean eigenvalue of the covariance times the number of rows: alphas mean the same whatever the scale is."""
SUM_ERROR = 1e-7
"""Relative, of a sum of products of float32."""


@dataclass(frozen=True)
class Moments:
    """Weighted sums over some rows: counts (K,), sums (K, D) by class; gram (D, D), of ``x x^T``. All float64."""

    counts: Array
    sums: Array
    gram: Array

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.counts + other.counts, self.sums + other.sums, self.gram + other.gram)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.counts - other.counts, self.sums - other.sums, self.gram - other.gram)


@dataclass(frozen=True, eq=False)
class ClosedForms:
    """The moments of each fold, from which every head and setting follows."""

    features: Features
    codes: Array
    folds: Array
    parts: tuple[Moments, ...]

    @classmethod
    def of(cls, features: Features, codes: Array, folds: Array, *, columns: int, balanced: bool = False) -> ClosedForms:
        """Read the rows once; arguments as of :func:`logistic.search_C`, for one class of several an item."""
        weights = class_weights(codes, columns, np.ones(len(codes)), balanced)
        count, dim = int(folds.max()) + 1, features.dim
        zero = Moments(np.zeros(columns), np.zeros((columns, dim)), np.zeros((dim, dim)))
        parts = [zero] * count
        for rows, block in features.blocks():
            for fold in range(count):
                inside = folds[rows] == fold
                x, y, w = block[inside], codes[rows][inside], weights[rows][inside]
                hot = np.zeros((len(x), columns), dtype=np.float32)
                hot[np.arange(len(x)), y] = w
                gram = (x.T * w.astype(np.float32)) @ x
                parts[fold] += Moments(np.bincount(y, w, columns), (hot.T @ x).astype(np.float64), gram)
        return cls(features, codes, folds, tuple(parts))

    @property
    def total(self) -> Moments:
        """Of all rows."""
        return reduce(Moments.__add__, self.parts)

    def settings(self, head: str) -> Settings:
        """What is compared, rising."""
        if head == "ridge":
            scatter = _scatter(self.total)
            return tuple(float(alpha * np.trace(scatter) / len(scatter)) for alpha in ALPHAS)
        return SHRINKAGES if head == "lda" else (None,)

    def fit(self, head: str, setting: float | None) -> tuple[Array, Array]:
        """Weights (K, D) and intercepts (K,), as scikit-learn's; of two classes (1, D) and (1,)."""
        V = _SOLVERS[head](self.total, (setting,))[0]
        if V.shape[1] == 2 and head != "centroid":
            V = V[:, 1:] - V[:, :1] if head == "lda" else V[:, 1:]
        return np.ascontiguousarray(V[:-1].T), V[-1]

    def search(self, head: str) -> tuple[Candidate, ...]:
        """Each setting in cross-validation."""
        settings, total = self.settings(head), self.total
        counts = np.zeros((len(self.parts), len(settings), 3))  # rows, right, loss
        for fold, part in enumerate(self.parts):
            V = _SOLVERS[head](total - part, settings)
            mine = np.flatnonzero(self.folds == fold)
            held_out = self.features.take(mine)
            for rows, block in held_out.blocks():
                for s, weights in enumerate(V):
                    logits = block @ weights[:-1].astype(np.float32) + weights[-1]
                    counts[fold, s] += [len(block), *_score(logits, self.codes[mine[rows]])]
        rows_, right, loss = np.moveaxis(counts, 2, 0)
        return tuple(
            candidate(head, s, right[:, i] / rows_[:, i], loss[:, i] / rows_[:, i] if head == "lda" else None)
            for i, s in enumerate(settings)
        )

    def held_out(self, head: str, setting: float | None) -> Array:
        """The logits (N, K) of every row by the fit that has not seen it."""
        logits = np.empty((len(self.codes), len(self.total.counts)), dtype=np.float64)
        for fold, part in enumerate(self.parts):
            weights = _SOLVERS[head](self.total - part, (setting,))[0]
            mine = np.flatnonzero(self.folds == fold)
            for rows, block in self.features.take(mine).blocks():
                logits[mine[rows]] = block @ weights[:-1] + weights[-1]
        return logits


def _score(logits: Array, codes: Array) -> tuple[float, float]:
    """How many are right, and the sum of the log losses."""
    highest = logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0] - logits[np.arange(len(codes)), codes]
    return float((logits.argmax(axis=1) == codes).sum()), float(losses.sum())


def _scatter(moments: Moments) -> Array:
    total, size = moments.sums.sum(axis=0), moments.counts.sum()
    return np.asarray(moments.gram - np.outer(total, total) / size)


def _ridge(moments: Moments, alphas: Settings) -> Array:
    """(S, D + 1, K), the minima of ``|y - Xw - b|^2 + alpha |w|^2`` for targets of 1 and -1."""
    size, total = moments.counts.sum(), moments.sums.sum(axis=0)
    mean, target = total / size, 2 * moments.counts / size - 1
    products = 2 * moments.sums.T - total[:, None] - np.outer(total, target)
    values, vectors = np.linalg.eigh(_scatter(moments))
    turned = vectors.T @ products
    found = []
    for alpha in alphas:
        W = vectors @ (turned / (np.maximum(values, 0) + (alpha or 0.0))[:, None])
        found.append(np.vstack([W, target - mean @ W]))
    return np.stack(found)


def _lda(moments: Moments, shrinkages: Settings) -> Array:
    """(S, D + 1, K): the discriminants of classes that share one covariance, shrunk towards a multiple of 1."""
    counts = np.maximum(moments.counts, 1e-9)  # a fold of whole groups may lack a class
    size, means = counts.sum(), moments.sums / counts[:, None]
    within = (moments.gram - (means.T * counts) @ means) / size
    values, vectors = np.linalg.eigh(within)
    noise = SUM_ERROR * float(np.trace(moments.gram)) / size  # all there is with one row a class
    values = np.maximum(values, noise)
    turned, level = vectors.T @ means.T, float(values.mean())
    found = []
    for shrinkage in shrinkages:
        share = shrinkage or 0.0
        W = vectors @ (turned / ((1 - share) * values + share * level)[:, None])
        found.append(np.vstack([W, np.log(counts / size) - 0.5 * (means.T * W).sum(axis=0)]))
    return np.stack(found)


def _centroid(moments: Moments, settings: Settings) -> Array:
    """(1, D + 1, K): half the squared distance to each mean, but for what all have in common."""
    means = moments.sums / np.maximum(moments.counts, 1e-9)[:, None]
    return np.vstack([means.T, -0.5 * (means**2).sum(axis=1)])[None].repeat(len(settings), axis=0)


_SOLVERS: dict[str, Callable[[Moments, Settings], Array]] = {"ridge": _ridge, "lda": _lda, "centroid": _centroid}


def estimator(head: str, coef: Array, intercept: Array, classes: Array, setting: float | None) -> Any:
    """The fitted estimator of scikit-learn with these weights."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import RidgeClassifier
    from sklearn.neighbors import NearestCentroid

    if head == "centroid":
        fitted = NearestCentroid()
        fitted.centroids_ = coef
        fitted.class_prior_ = np.full(len(classes), 1 / len(classes))
        fitted.classes_ = classes
    elif head == "ridge":
        # what else a fit leaves behind differs between versions: let a tiny one make it
        fitted = RidgeClassifier(alpha=setting).fit(np.eye(len(classes), coef.shape[1]), classes)
        fitted.coef_, fitted.intercept_ = coef, intercept
    else:
        fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=setting)
        fitted.coef_, fitted.intercept_, fitted.classes_ = coef, intercept, classes
    fitted.n_features_in_ = coef.shape[1]
    return fitted


HEADS: Sequence[str] = tuple(_SOLVERS)
