"""The one test that decides: maximum mean discrepancy of two samples against its distribution under permutation.

If both samples are independent draws of one distribution, every division of the pooled rows into two of these sizes is
as likely as the one that was seen. So the share of random divisions with a discrepancy at least as large is a p-value
whose level is exact for any number of rows, any distribution and any kernel that was not chosen by these rows.

*Source:* Gretton et al., A Kernel Two-Sample Test, 2012; Phipson and Smyth, Permutation P-values Should Never Be Zero,
2010.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError

Floats = npt.NDArray[np.float32]

PERMUTATIONS = 1000
ABOVE = 2
"""Divisions that may lie above the threshold, at least: with one, where that lies is a matter of chance."""
ROUNDING = 1e-9
"""Discrepancies this close are equal: what is left of float32 where all rows are."""
_CELLS = 1 << 22


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the test says of two samples.

    Attributes
    ----------
    statistic : float
        The squared maximum mean discrepancy, unbiased: around 0 where nothing has changed.
    threshold : float
        What it exceeds by chance in a share `level` of cases.
    p_value : float
        Share of random divisions with a discrepancy at least as large, this one among them.
    level : float
        The rate of false alarms.
    """

    statistic: float
    threshold: float
    p_value: float
    level: float

    @property
    def alarm(self) -> bool:
        """Whether the samples differ by more than chance."""
        return self.p_value <= self.level


def permutations_for(level: float) -> int:
    """Random divisions for a test at a level: 999 at 0.01, 1,999 at 0.001.

    Where `level` times one more than that is a whole number the level is exact, else a little lower.

    Raises
    ------
    ColdpressError
        For a level that is none, or below 0.0001.
    """
    if not 1e-4 <= level <= 0.5:
        raise ColdpressError(f"level is {level}, expected a rate of false alarms between 0.0001 and 0.5")
    return max(PERMUTATIONS, ceil(round(ABOVE / level, 6))) - 1


def compare(reference: Floats, new: Floats, level: float, seed: int) -> Verdict:
    """Test whether two samples, given as features (N, F) of length 1, are of one distribution."""
    n, m = len(reference), len(new)
    count = permutations_for(level)
    pooled = np.concatenate([reference, new])
    centre = pooled.mean(axis=0, dtype=np.float64)
    pooled -= centre.astype(np.float32)
    observed = _discrepancy(new.sum(axis=0, dtype=np.float64)[None] - m * centre, centre, n, m)[0]
    # A stream of its own: the rows themselves may have been drawn by the same seed, and divisions must not know of it.
    rng, found = np.random.default_rng([seed, n, m]), []
    step = max(1, _CELLS // len(pooled))
    for start in range(0, count, step):
        sums = _random_sums(pooled, m, min(step, count - start), rng)
        found.append(_discrepancy(sums.astype(np.float64), centre, n, m))
    null = np.sort(np.concatenate(found))
    above = int((null >= observed - ROUNDING).sum())
    allowed = floor(round(level * (count + 1), 6))
    return Verdict(float(observed), float(null[count - allowed]), (1 + above) / (count + 1), level)


def _random_sums(pooled: Floats, m: int, count: int, rng: np.random.Generator) -> Floats:
    """The sum of `m` rows drawn at random, for `count` draws, (count, F)."""
    keys = rng.integers(0, 2**32, (count, len(pooled)), dtype=np.uint32)
    drawn = np.argpartition(keys, m - 1, axis=1)[:, :m]
    chosen = np.zeros(keys.shape, np.float32)
    np.put_along_axis(chosen, drawn, 1.0, axis=1)
    return chosen @ pooled


def _discrepancy(
    sums: npt.NDArray[np.float64], centre: npt.NDArray[np.float64], n: int, m: int
) -> npt.NDArray[np.float64]:
    """Of divisions given by the sums (P, F) of the m new rows about the centre of all, where those of all are 0."""
    squares, along = (sums**2).sum(axis=1), sums @ centre
    length = float(centre @ centre)
    own_new = length + 2 * along / m + squares / m**2  # squared length of the mean of the new rows
    own_reference = length - 2 * along / n + squares / n**2
    bias = (own_reference - 1) / (n - 1) + (own_new - 1) / (m - 1)
    return np.asarray(squares * (1 / n + 1 / m) ** 2 + bias)
