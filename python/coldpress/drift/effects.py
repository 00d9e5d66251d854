"""How large a difference is, in words that people use: none of these decides, none has a level."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from coldpress.drift.moments import Moments, frechet_distance, standardised_shift
from coldpress.drift.sample import Floats
from coldpress.probes.closed import ClosedForms
from coldpress.probes.evaluate import wilson_interval
from coldpress.probes.features import Features
from coldpress.probes.splits import fold_numbers

DIMENSIONS_SHOWN = 10
_COLUMNS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Separation:
    """How well a linear classifier tells new items from those of the reference, each held out from its training.

    Attributes
    ----------
    auc : float
        How often a new item looks newer than one of the reference: 0.5 where they cannot be told apart.
    changed, interval : float
        The share of new items that would have to be others, at least, for both to be alike (total variation), and its
        95 % interval. 0 where the classifier finds nothing.
    """

    auc: float
    changed: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One of the D numbers: by how many standard deviations of the reference its mean has moved."""

    number: int
    shift: float


@dataclass(frozen=True, slots=True)
class Effects:
    """The size of a difference.

    Attributes
    ----------
    separation : Separation
    frechet, frechet_mean : float
        Squared Frechet distance of the moments of all rows, None with fewer rows than twice the dimensions, whose
        covariance says little; and the part of it that is the shift of the mean.
    variance : float
        The total variance of the reference, for scale.
    shifted, dimensions : int
        How many of the dimensions have another distribution (Kolmogorov-Smirnov, Holm, at the level of the test).
    largest : tuple of Dimension
        Those whose mean has moved most.
    """

    separation: Separation
    frechet: float | None
    frechet_mean: float
    variance: float
    shifted: int
    dimensions: int
    largest: tuple[Dimension, ...]


def effects_of(
    reference: tuple[Floats, Moments], new: tuple[Floats, Moments], *, level: float, seed: int
) -> tuple[Effects, npt.NDArray[np.float64]]:
    """Of samples (n, D) and the moments of all rows; beside them the shift of every dimension (D,)."""
    (before, old), (after, young) = reference, new
    shift = standardised_shift(old, young)
    largest = np.argsort(-np.abs(shift), kind="stable")[:DIMENSIONS_SHOWN]
    enough = min(old.count, young.count) >= 2 * len(shift)
    p_values = kolmogorov_smirnov(before, after)
    found = Effects(
        separation=separation(before, after, seed),
        frechet=frechet_distance(old, young) if enough else None,
        frechet_mean=float(((young.mean - old.mean) ** 2).sum()),
        variance=float(np.trace(old.covariance)),
        shifted=int((holm(p_values) <= level).sum()),
        dimensions=len(shift),
        largest=tuple(Dimension(int(d), float(shift[d])) for d in largest),
    )
    return found, shift


def separation(reference: Floats, new: Floats, seed: int) -> Separation:
    """Shrunken linear discriminants in stratified folds; both sides weigh the same, whatever their sizes."""
    from scipy.stats import rankdata

    x = np.concatenate([reference, new])
    codes = np.repeat(np.array([0, 1]), (n := len(reference), m := len(new)))
    features = Features(x, np.arange(len(x)), str)
    forms = ClosedForms.of(features, codes, fold_numbers(codes, seed), columns=2, balanced=True)
    logits = forms.held_out("lda", x.shape[1] / (x.shape[1] + len(x)))
    scores = logits[:, 1] - logits[:, 0]
    ranks = rankdata(scores)
    auc = (ranks[n:].sum() - m * (m + 1) / 2) / (n * m)
    found_new, kept = int((scores[n:] > 0).sum()), int((scores[:n] <= 0).sum())
    gain = found_new / m + kept / n - 1
    (low_new, high_new), (low, high) = wilson_interval(found_new, m), wilson_interval(kept, n)
    below = sqrt((found_new / m - low_new) ** 2 + (kept / n - low) ** 2)
    above = sqrt((high_new - found_new / m) ** 2 + (high - kept / n) ** 2)
    return Separation(float(auc), max(0.0, gain), (max(0.0, gain - below), min(1.0, max(0.0, gain + above))))


def kolmogorov_smirnov(one: Floats, other: Floats) -> npt.NDArray[np.float64]:
    """The p-value (D,) of the two-sample test of each dimension, by its limit for many rows."""
    from scipy.special import kolmogorov

    n, m = len(one), len(other)
    distances = []
    for start in range(0, one.shape[1], _COLUMNS_AT_ONCE):
        part = slice(start, start + _COLUMNS_AT_ONCE)
        pooled = np.concatenate([one[:, part], other[:, part]])
        order = np.argsort(pooled, axis=0)
        steps = np.cumsum(np.where(order < n, 1 / n, -1 / m), axis=0)
        values = np.take_along_axis(pooled, order, axis=0)
        last = np.concatenate([values[1:] != values[:-1], np.ones((1, values.shape[1]), bool)])  # of equal ones
        distances.append(np.abs(np.where(last, steps, 0.0)).max(axis=0))
    return np.asarray(kolmogorov(sqrt(n * m / (n + m)) * np.concatenate(distances)))


def holm(p_values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Adjust p-values (N,) of several tests (Holm 1979): how often any of those below a level is a false alarm.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
