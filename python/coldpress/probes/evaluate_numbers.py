"""How good predicted numbers are, with the uncertainty that the size of the test part leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.probes.resample import Interval, interval, resamples

Array = npt.NDArray[Any]
ERRORS_LISTED, SAMPLE = 20, 500


@dataclass(frozen=True, slots=True)
class Error:
    """An item and how far its prediction is off."""

    key: str
    label: float
    prediction: float


@dataclass(frozen=True, slots=True)
class NumberEvaluation:
    """Predicted numbers compared with those of the labels; 95 % intervals (low, high) by resampling the test items.

    Attributes
    ----------
    items : int
    r2 : share of the variance that is explained: 1 minus the mean squared error over the variance of the labels.
    mae, rmse : mean absolute error and root of the mean squared error, in the unit of the labels.
    spearman : correlation of the ranks; None where all labels or all predictions are equal.
    baseline_mae, baseline_rmse : of always predicting the mean of the training part.
    errors : the largest ones.
    sample : 500 items at random, or all of fewer.
    """

    items: int
    r2: float
    r2_interval: Interval
    mae: float
    mae_interval: Interval
    rmse: float
    rmse_interval: Interval
    spearman: float | None
    spearman_interval: Interval | None
    baseline_mae: float
    baseline_rmse: float
    errors: tuple[Error, ...]
    sample: tuple[Error, ...]


def evaluate_numbers(
    truth: Array, predicted: Array, keys: Sequence[str], *, mean: float, seed: int = 0
) -> NumberEvaluation:
    """Compare `predicted` with `truth`, both (N,) float64, N at least 2; `mean` is that of the training part.

    Raises
    ------
    ValueError
        All labels are equal: there is nothing to explain.
    """
    if np.ptp(truth) == 0:
        raise ValueError(f"all {len(truth)} test items are labelled {truth[0]:g}")
    once = _measures(truth, predicted, np.ones((1, len(truth))))
    times = np.stack(list(resamples(len(truth), np.random.default_rng(seed))))
    with np.errstate(invalid="ignore", divide="ignore"):
        many = _measures(truth, predicted, times)
    ranked = not np.isnan(once[3, 0])
    worst = np.argsort(-np.abs(truth - predicted), kind="stable")[:ERRORS_LISTED]
    drawn = np.sort(np.random.default_rng(seed).permutation(len(truth))[:SAMPLE])
    return NumberEvaluation(
        items=len(truth),
        r2=float(once[0, 0]),
        r2_interval=interval(many[0]),
        mae=float(once[1, 0]),
        mae_interval=interval(many[1]),
        rmse=float(once[2, 0]),
        rmse_interval=interval(many[2]),
        spearman=float(once[3, 0]) if ranked else None,
        spearman_interval=interval(many[3]) if ranked else None,
        baseline_mae=float(np.abs(truth - mean).mean()),
        baseline_rmse=float(np.sqrt(((truth - mean) ** 2).mean())),
        errors=tuple(Error(keys[i], float(truth[i]), float(predicted[i])) for i in worst),
        sample=tuple(Error(keys[i], float(truth[i]), float(predicted[i])) for i in drawn),
    )


def _measures(truth: Array, predicted: Array, times: Array) -> Array:
    """R^2, mean absolute error, root mean square and rank correlation, (4, R), of samples with items so many `times`.

    Ranks are those among all test items: in a sample they order its items in the same way.
    """
    from scipy.stats import rankdata

    W = times / len(truth)
    squared = W @ (truth - predicted) ** 2
    about = truth - truth.mean()
    spread = W @ about**2 - (W @ about) ** 2
    a, b = (rankdata(one) / len(truth) - 0.5 for one in (truth, predicted))
    mean_a, mean_b = W @ a, W @ b
    covariance = W @ (a * b) - mean_a * mean_b
    variances = (W @ a**2 - mean_a**2) * (W @ b**2 - mean_b**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.where(variances > 1e-18, covariance / np.sqrt(np.maximum(variances, 0)), np.nan)
        explained = np.where(spread > 1e-12 * (about**2).mean(), 1 - squared / spread, np.nan)  # of equal numbers: none
    return np.stack([explained, W @ np.abs(truth - predicted), np.sqrt(squared), correlation])
