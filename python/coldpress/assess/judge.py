"""What features are worth for some labels: the scores, and which items a probe and neighbours get right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.assess.moments import ClassMoments
from coldpress.assess.scores import h_score, log_evidence, nleep
from coldpress.probes import knn
from coldpress.probes.evaluate import wilson_interval
from coldpress.probes.features import Features
from coldpress.probes.held_out import held_out_predictions

Array = npt.NDArray[Any]

NEIGHBOURS = 20
"""That vote, as many as work best for DINO's features; fewer where there are few items."""
RANK = 1e-10
"""Directions with a smaller share of the largest eigenvalue are rounding."""


@dataclass(frozen=True, slots=True)
class Share:
    """Of items, each classified by others: the share that is right, and its 95 % Wilson interval."""

    accuracy: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, right: npt.NDArray[np.bool_]) -> Share:
        """Of which items (N,) are right."""
        return cls(float(right.mean()), wilson_interval(int(right.sum()), len(right)))


@dataclass(frozen=True, slots=True)
class Scores:
    """How well features tell the classes apart; higher is better in all of them.

    Attributes
    ----------
    dim : D, and `log_me`, `h_score`, `h_score_shrunk`, `nleep` as :mod:`coldpress.assess.scores` has them.
    probe, knn : logistic regression, and weighted nearest neighbours, of the other folds.
    """

    dim: int
    log_me: float
    h_score: float
    h_score_shrunk: float
    nleep: float
    probe: Share
    knn: Share


@dataclass(frozen=True, eq=False)
class Judged:
    """Scores of features, and which of the N items the probe and the neighbours get right, (N,) each."""

    scores: Scores
    probe: npt.NDArray[np.bool_]
    knn: npt.NDArray[np.bool_]


def judge(features: Features, codes: Array, folds: Array, *, columns: int, seed: int = 0) -> Judged:
    """Score features of N items; `codes` (N,) are their classes from 0 on, `folds` (N,) where each is held out."""
    dim, features = features.dim, turned(features)
    moments = ClassMoments.of(features, codes, columns, dim)
    probe = held_out_predictions(features, codes, folds, columns=columns) == codes
    k = min(NEIGHBOURS, len(codes) - int(np.bincount(folds).max()))
    voters = knn.Neighbours(features, codes, columns, folds)
    near = knn.held_out(voters, k, np.arange(len(codes))).argmax(axis=1) == codes
    scores = Scores(
        dim=dim,
        log_me=log_evidence(moments),
        h_score=h_score(moments),
        h_score_shrunk=h_score(moments, None),
        nleep=nleep(features.array(np.float32), codes, seed=seed),
        probe=Share.of(probe),
        knn=Share.of(near),
    )
    return Judged(scores, probe, near)


def turned(features: Features) -> Features:
    """The same where there are more items than dimensions; else in the space that the items span, turned.

    Nothing here changes when all vectors are turned alike, and 2,000 items with 3,072 dimensions cost a third.
    """
    if features.dim <= len(features):
        return features
    X = features.array(np.float64)
    return Features(spanned(X @ X.T), np.arange(len(X)), features.name)


def spanned(gram: Array) -> npt.NDArray[np.float32]:
    """Vectors (N, R) whose inner products are those of a matrix (N, N)."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > RANK * max(float(values[-1]), 1e-300)
    kept[-1] = True
    return np.ascontiguousarray((vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0)))[:, ::-1], dtype=np.float32)
