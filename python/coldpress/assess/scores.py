"""Transferability scores that need no training: LogME, H-score, NLEEP. Higher is better in all of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.assess.moments import ClassMoments

Array = npt.NDArray[Any]

EPSILON = 1e-5
"""Added to both sums of squares, as the authors of LogME do: a target that is fitted exactly has a finite evidence. It
moves other values by up to 4e-4, where weights are small."""
ITERATIONS, TOLERANCE = 200, 1e-7
RANK = 1e-10
"""Eigenvalues of a covariance below that share of the largest are directions that no item has."""
NLEEP_VARIANCE, NLEEP_COMPONENTS = 0.8, 5
"""Share of the variance that the principal components keep, and Gaussians a class: those of the paper."""


def log_evidence(moments: ClassMoments) -> float:
    """LogME: the log evidence, a row and a class, of Bayesian linear regression on the classes as 0 and 1.

    Both precisions, of the weights and of the noise, are those that maximise it; only sums over the items are needed:
    with eigenvalues s of ``F^T F`` and ``z = V^T F^T y``, the weights have ``|m|^2 = sum z^2 / (t + s)^2`` and the
    residual is ``|y|^2 - sum z^2 (s + 2 t) / (s + t)^2`` at ``t = alpha / beta``.

    Source: You et al., *LogME* (ICML 2021), https://arxiv.org/abs/2102.11005; the fixed point as in You et al.,
    *Ranking and Tuning Pre-trained Models* (2022), https://arxiv.org/abs/2110.10545.
    """
    raw = moments.gram + moments.items * np.outer(moments.mean, moments.mean)  # LogME does not centre
    targets = moments.sums + moments.counts[:, None] * moments.mean
    values, vectors = np.linalg.eigh(raw)
    values = np.maximum(values, 0)
    projected = (targets @ vectors) ** 2
    evidences = [
        _evidence(values, z2, count, moments.items) for z2, count in zip(projected, moments.counts, strict=True)
    ]
    return float(np.mean(evidences))


def _evidence(s: Array, z2: Array, square: float, items: float) -> float:
    """Of one target with ``|y|^2 = square``."""
    alpha = beta = 1.0
    for _ in range(ITERATIONS):
        t = alpha / beta
        gamma = float((s / (s + t)).sum())
        weights = float((z2 / (s + t) ** 2).sum()) + EPSILON
        residual = max(square - float((z2 * (s + 2 * t) / (s + t) ** 2).sum()), 0.0) + EPSILON
        alpha, beta = gamma / weights, (items - gamma) / residual
        if not (alpha > 0 and beta > 0) or abs(alpha / beta - t) <= TOLERANCE * t:
            break
    alpha, beta = max(alpha, 1e-300), max(beta, 1e-300)
    evidence = len(s) * np.log(alpha) + items * np.log(beta) - np.log(alpha + beta * s).sum()
    return float(evidence - beta * residual - alpha * weights - items * np.log(2 * np.pi)) / (2 * items)


def h_score(moments: ClassMoments, shrinkage: float | None = 0.0) -> float:
    """H-score: ``tr(cov(f)^-1 cov(E[f | y]))``, between 0 and the number of classes less one.

    With few items in many dimensions it is near its maximum whatever the features are; `shrinkage` is how far the
    covariance moves towards a multiple of 1, and the covariance between classes is scaled alike. None takes that of
    Ledoit and Wolf.

    Source: Bao et al., *An information-theoretic approach to transferability* (ICIP 2019); with shrinkage, Ibrahim et
    al., *Newer is not always better* (2022), https://arxiv.org/abs/2110.06893.
    """
    covariance, between = moments.gram / moments.items, moments.between
    share = ledoit_wolf(moments) if shrinkage is None else shrinkage
    level = float(np.trace(covariance)) / moments.dim
    values, vectors = np.linalg.eigh((1 - share) * covariance + share * level * np.eye(len(covariance)))
    kept = values > RANK * max(float(values[-1]), 1e-300)
    projected = ((vectors[:, kept].T @ between) * vectors[:, kept].T).sum(axis=1)
    return float((1 - share) * (projected / values[kept]).sum())


def ledoit_wolf(moments: ClassMoments) -> float:
    """The shrinkage of Ledoit and Wolf (2004), as scikit-learn's ``ledoit_wolf_shrinkage``."""
    covariance, dim, items = moments.gram / moments.items, moments.dim, moments.items
    square = float((covariance**2).sum())
    distance = square - float(np.trace(covariance)) ** 2 / dim
    error = (moments.quartic / items - square) / items
    return 0.0 if distance <= 0 else float(min(max(error, 0.0), distance) / distance)


def nleep(features: Array, codes: npt.NDArray[np.int64], *, seed: int = 0) -> float:
    """NLEEP: the mean log likelihood of the classes when Gaussians of the features stand for source classes.

    At most 0. Gaussians have diagonal covariances in the space of the principal components: full ones, as in the
    paper, need more items than there are.

    Parameters
    ----------
    features : (N, D).
    codes : (N,), the classes, from 0 on.

    Source: Li et al., *Ranking neural checkpoints* (CVPR 2021), https://arxiv.org/abs/2011.11200; LEEP: Nguyen et al.
    (ICML 2020), https://arxiv.org/abs/2002.12462.
    """
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    classes = int(codes.max()) + 1
    count = max(1, min(NLEEP_COMPONENTS * classes, len(codes) // 10))
    reduced = PCA(NLEEP_VARIANCE, svd_solver="full", random_state=seed).fit_transform(features.astype(np.float64))
    scale = float(reduced.std()) or 1.0
    mixture = GaussianMixture(count, covariance_type="diag", reg_covar=1e-3, random_state=seed, max_iter=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is as good a mixture as 50 steps find, of items that may repeat
        posterior = mixture.fit(reduced / scale).predict_proba(reduced / scale)
    joint = np.zeros((classes, count))
    np.add.at(joint, codes, posterior / len(codes))
    conditional = joint / np.maximum(joint.sum(axis=0), 1e-300)
    likelihood = (posterior * conditional[codes]).sum(axis=1)
    return float(np.log(np.maximum(likelihood, 1e-300)).mean())
