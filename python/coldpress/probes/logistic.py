"""Logistic regression: one fit, or a search for its strength of regularisation along the whole path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coldpress._process import cores
from coldpress.models.workers import single_threaded_workers
from coldpress.probes.candidates import Candidate, best, candidate
from coldpress.probes.features import Features
from coldpress.probes.passes import KEPT_BYTES, Problem
from coldpress.probes.path import Path

Array = npt.NDArray[Any]

C_GRID = tuple(10.0 ** (exponent / 4) for exponent in range(-24, 21))
"""From 1e-6 to 1e5: the 45 values of the linear probes of CLIP, DINO and DINOv2."""
SEARCH_TOLERANCE = 2e-5
"""Of the loss: accuracies in cross-validation then differ from those at the minimum by 0.001 at most."""
WARM_TOLERANCE = 1e-3
"""Of the loss, where it is only on the way."""
ROUGH_TOLERANCE, FIT_TOLERANCE = 1e-9, 1e-10
"""Of the loss, in float32 and then in float64. Rows that are too many for the latter keep the former."""


@dataclass(frozen=True, eq=False)
class Search:
    """The values of C compared, rising; of the best the weights (A, D + 1, K) of every fold, for centred vectors."""

    candidates: tuple[Candidate, ...]
    V: torch.Tensor
    mean: Array

    @property
    def C(self) -> float:  # noqa: N802
        """The best value."""
        return float(best(self.candidates).setting or 0.0)

    @property
    def start(self) -> torch.Tensor:
        """Weights (D + 1, K) from which to fit with the best."""
        return self.V.mean(0)

    def held_out(self, features: Features, folds: Array) -> Array:
        """Decisions (n, K) for some of the rows, each by the weights of the fold (n,) that has not seen it."""
        found = np.empty((len(features), self.V.shape[2]))
        weights = self.V.double().numpy()
        for part, block in features.blocks():
            for fold in np.unique(folds[part]).tolist():
                inside = np.flatnonzero(folds[part] == fold)
                W, b = weights[fold, :-1], weights[fold, -1]
                found[part.start + inside] = block[inside] @ W + (b - self.mean @ W)
        return found


def search_C(  # noqa: N802 (C is scikit-learn's name)
    features: Features,
    targets: Array,
    folds: Array,
    *,
    columns: int,
    balanced: bool = False,
    grid: Sequence[float] = C_GRID,
    warm: Sequence[float] = (),
) -> Search:
    """Compare the values of a geometric `grid` by cross-validation.

    Parameters
    ----------
    features : N rows.
    targets : (N,) int64, each of K >= 2 classes; or (N, L) of 0 and 1, several labels an item.
    folds : (N,) int, the part in which a row is held out.
    columns : K or L.
    balanced : weight classes by the inverse of their frequency.
    warm : values of C before those of the grid, on the way to them and not compared.
    """
    parts = int(folds.max()) + 1
    trained = (folds[:, None] != np.arange(parts)).astype(np.float64)
    weights = trained * np.stack([class_weights(targets, columns, trained[:, f], balanced) for f in range(parts)], 1)
    candidates: list[Candidate] = []
    chosen, (centred, mean) = torch.empty(0), _centred(features)
    with _path(centred, targets, columns, weights, folds) as path:
        start = None
        for point in path.follow(warm, WARM_TOLERANCE):
            start = point.V
        for point in path.follow(grid, SEARCH_TOLERANCE, start):
            rows, losses, right, positive = point.held_out.numpy().T
            scores = 2 * right / np.maximum(positive, 1) if targets.ndim == 2 else right / rows
            candidates.append(candidate("logistic", point.C, scores, losses / rows))
            if best(candidates) is candidates[-1]:
                chosen = point.V
    return Search(tuple(candidates), chosen, mean)


def on_the_way(C: float) -> tuple[float, ...]:
    """Smaller values, from which one warm start leads to the next and to C."""
    return tuple(C * 10.0**power for power in (-4, -3, -2, -1))


def fit(
    features: Features,
    targets: Array,
    C: float,
    *,
    columns: int,
    balanced: bool = False,
    start: torch.Tensor | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], bool]:
    """The weights (K, D) and intercepts (K,) of scikit-learn's LogisticRegression, and whether the solver converged.

    Of two classes, (1, D) and (1,). Arguments as of `search_C`; `start` is what that has found.
    """
    centred, mean = _centred(features)
    weights = class_weights(targets, columns, np.ones(len(features)), balanced)[:, None]
    V = None if start is None else start[None]
    nobody = np.full(len(features), -1)
    with _path(centred, targets, columns, weights, nobody) as path:
        if V is None:
            for point in path.follow(on_the_way(C), WARM_TOLERANCE):
                V = point.V
        point = next(path.follow([C], ROUGH_TOLERANCE, V))
    exact = 8 * len(features) * features.dim <= KEPT_BYTES // 2
    if exact:
        with _path(centred, targets, columns, weights, nobody, torch.float64) as path:
            point = next(path.follow([C], FIT_TOLERANCE, point.V))
    V = point.V[0].double()
    if targets.ndim == 1 and columns > 2:
        V = V - V.mean(1, keepdim=True)  # where the minimum is, and where scikit-learn's intercepts are
    coef = V[:-1].T.contiguous().numpy()
    return coef, V[-1].numpy() - coef @ mean, point.converged


def estimator(coef: Array, intercept: Array, classes: Array, C: float) -> Any:
    """A LogisticRegression of scikit-learn with these weights, as if it had fitted them."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=C)
    fitted.coef_, fitted.intercept_ = coef, intercept
    fitted.classes_, fitted.n_features_in_ = classes, coef.shape[1]
    fitted.n_iter_ = np.zeros(1, dtype=np.int32)
    return fitted


def estimator_of_sets(coef: Array, intercept: Array, C: float) -> Any:
    """A OneVsRestClassifier of such regressions, one a label, for indicator matrices (N, L)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import LabelBinarizer

    answers, fitted = np.arange(2), OneVsRestClassifier(LogisticRegression(C=C))
    fitted.estimators_ = [
        estimator(coef[label, None], intercept[label, None], answers, C) for label in range(len(coef))
    ]
    fitted.label_binarizer_ = LabelBinarizer(sparse_output=True).fit(np.eye(len(coef), dtype=np.int64))
    fitted.n_features_in_ = coef.shape[1]
    return fitted


def class_weights(targets: Array, columns: int, trained: Array, balanced: bool) -> Array:  # noqa: FBT001
    """The weight (N,) of each row in a training part; `trained` (N,) is 1 in it."""
    if not balanced or targets.ndim == 2:
        return np.asarray(trained, dtype=np.float64)
    counts = np.maximum(np.bincount(targets, weights=trained, minlength=columns), 1)
    return np.asarray(trained * (trained.sum() / (columns * counts))[targets])


def _centred(features: Features) -> tuple[Features, npt.NDArray[np.float64]]:
    """Intercepts are free, so a common shift of the vectors changes them alone, and makes the problem an easier one."""
    mean, scale = features.mean(), features.scale
    moved = mean if scale is None else mean * scale
    shift = moved if features.shift is None else features.shift + moved
    return Features(features.matrix, features.rows, features.name, shift, scale), mean


@contextmanager
def _path(
    features: Features, targets: Array, columns: int, weights: Array, held_by: Array, dtype: torch.dtype = torch.float32
) -> Iterator[Path]:
    binary = targets.ndim == 1 and columns == 2
    given = targets[None] if binary else targets.T
    sizes = torch.from_numpy(weights.sum(axis=0)).to(dtype)
    with single_threaded_workers(cores()) as workers, one_thread():
        problem = Problem(
            read=features.read,
            dim=features.dim,
            targets=torch.from_numpy(np.ascontiguousarray(given, np.int64 if given.ndim == 1 else np.float32)),
            columns=1 if binary else columns,
            weights=(torch.from_numpy(weights).to(dtype) / sizes).T.contiguous(),
            held_by=torch.from_numpy(held_by.astype(np.int64)),
            workers=workers,
            dtype=dtype,
        )
        yield Path(problem, sizes)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread outside the workers.

    Between passes there is little to do, and a barrier after every op of it would wait for whatever else runs on the
    machine: ten times as long as the whole path takes alone.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
