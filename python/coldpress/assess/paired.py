"""Is one thing better than another on the same items: paired tests in cross-validation, and many of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import numpy.typing as npt

from coldpress.drift.effects import holm

ALPHA = 0.05
"""How often, at most, anything is called a difference where there is none, among comparisons made together."""


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much accuracy differs on the same items.

    Attributes
    ----------
    change, interval : and its 95 % interval (low, high).
    p : of no difference, two-sided.
    p_adjusted : the same by Holm among all comparisons made together; `p` where there is but one.
    """

    change: float
    interval: tuple[float, float]
    p: float
    p_adjusted: float

    @property
    def better(self) -> bool:
        """More than chance, upwards."""
        return self.p_adjusted < ALPHA and self.change > 0

    @property
    def worse(self) -> bool:
        """More than chance, downwards."""
        return self.p_adjusted < ALPHA and self.change < 0


def difference(ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_], folds: int) -> Difference:
    """Compare which items (N,) two cross-validated models get right.

    The models of the folds share most of their training items, so that items do not err independently of each other.
    As Nadeau and Bengio (2003) correct for it, the variance of the mean is larger by ``1 + k / (k - 1)`` for k folds
    than that of N independent items.

    Examples
    --------
    >>> found = difference(np.arange(200) > 19, np.arange(200) > 49, 5)
    >>> round(found.change, 3), [round(end, 3) for end in found.interval], found.better
    (0.15, [0.075, 0.225], True)
    """
    from scipy.stats import t as student

    change = ours.astype(np.float64) - theirs
    mean, freedom = float(change.mean()), len(change) - 1
    error = sqrt(float(change.var(ddof=1)) / len(change) * (1 + folds / (folds - 1)))
    reach = float(student.ppf(0.975, freedom)) * error
    p = 1.0 if mean == 0 else float(2 * student.sf(abs(mean) / error, freedom)) if error > 0 else 0.0
    return Difference(mean, (max(-1.0, mean - reach), min(1.0, mean + reach)), p, p)


def adjusted(differences: Iterable[Difference]) -> list[Difference]:
    """The same, each adjusted for all."""
    found = list(differences)
    ps = holm(np.array([one.p for one in found]))
    return [replace(one, p_adjusted=p) for one, p in zip(found, ps.tolist(), strict=True)]
