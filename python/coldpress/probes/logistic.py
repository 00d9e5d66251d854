"""Logistic regression by scikit-learn: one fit, or a search for its strength of regularisation."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

C_GRID = tuple(10.0**exponent for exponent in range(-3, 5))
FOLDS = 5
# The default tolerance of scikit-learn, 1e-4, stops weakly regularised fits far from their optimum: on 4,000 x 384
# features the accuracy at C=10 then depends on BLAS threading (0.875-0.877), and a warm start at C=1000 does no step
# at all. 1e-5 is enough to rank values of C.
SEARCH_TOLERANCE = 1e-5
FIT_TOLERANCE = 1e-6
MAX_ITERATIONS = 5000


@dataclass(frozen=True, slots=True)
class CandidateC:
    """What cross-validation on the training part says of one value of C: means over the folds."""

    C: float
    accuracy: float
    accuracy_std: float
    log_loss: float


def fit(X: Array, y: Array, C: float) -> tuple[Any, bool]:
    """A LogisticRegression fitted to X (N, D) float64 and y (N,), and whether its solver converged."""
    from sklearn.exceptions import ConvergenceWarning

    with _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return _regression(C, FIT_TOLERANCE).fit(X, y), True
        except ConvergenceWarning:
            warnings.simplefilter("ignore", ConvergenceWarning)
            return _regression(C, FIT_TOLERANCE).fit(X, y), False


def search_C(X: Array, y: Array, *, seed: int) -> tuple[CandidateC, ...]:  # noqa: N802 (C is scikit-learn's name)
    """Compare the values of `C_GRID`, rising, by stratified cross-validation on X (N, D) float64 and y (N,).

    Folds run side by side; each goes along the path warm-started. The search ends once two values in a row have
    improved neither accuracy nor log loss.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold

    folds = min(FOLDS, int(np.unique(y, return_counts=True)[1].min()))
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(X, y))
    models = [_regression(1.0, SEARCH_TOLERANCE, warm_start=True) for _ in splits]
    candidates: list[CandidateC] = []
    stale, best_accuracy, best_loss = 0, -1.0, np.inf
    with _one_thread(), warnings.catch_warnings(), ThreadPoolExecutor(min(folds, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore", ConvergenceWarning)
        for C in C_GRID:
            scores = np.array(
                list(pool.map(lambda model, split, C=C: _score(model.set_params(C=C), X, y, split), models, splits))
            )
            (accuracy, loss), spread = scores.mean(axis=0).tolist(), float(scores[:, 0].std())
            candidates.append(CandidateC(C, accuracy, spread, loss))
            stale = 0 if accuracy > best_accuracy or loss < best_loss else stale + 1
            best_accuracy, best_loss = max(best_accuracy, accuracy), min(best_loss, loss)
            if stale == 2:
                break
    return tuple(candidates)


def best(candidates: tuple[CandidateC, ...]) -> float:
    """The C of highest accuracy; among equals, of lowest log loss."""
    return max(candidates, key=lambda candidate: (candidate.accuracy, -candidate.log_loss)).C


def _score(model: Any, X: Array, y: Array, split: tuple[Array, Array]) -> tuple[float, float]:
    """Accuracy and log loss of `model`, fitted on from where it is on the first rows of `split`, on the others."""
    from sklearn.metrics import log_loss

    fit_rows, held_out = split
    model.fit(X[fit_rows], y[fit_rows])
    probabilities = model.predict_proba(X[held_out])
    right = model.classes_[probabilities.argmax(axis=1)] == y[held_out]
    return float(right.mean()), float(log_loss(y[held_out], probabilities, labels=model.classes_))


def _regression(C: float, tolerance: float, *, warm_start: bool = False) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, tol=tolerance, max_iter=MAX_ITERATIONS, warm_start=warm_start)


@contextmanager
def _one_thread() -> Iterator[None]:
    """BLAS and OpenMP with one thread each.

    A fit alternates between the two, whose idle threads spin against each other: with two threads it took 5 times as
    long at 4,000 x 384 x 4 classes on 2 cores, and was no faster at 20,000 x 768 x 100.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn depends on it

    with threadpool_limits(1):
        yield
