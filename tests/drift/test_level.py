"""The promise of the test: false alarms at the stated rate, for any distribution and sizes; and it finds changes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, kstest

from coldpress.drift import Reference
from coldpress.errors import ColdpressError

REPEATS = 200


def gaussian(rng, rows):
    return rng.normal(size=(rows, 6))


def heavy_tailed(rng, rows):
    return rng.standard_cauchy(size=(rows, 6))


def duplicated(rng, rows):
    return rng.integers(0, 2, (rows, 3)).astype(float)


def p_values(draw, reference, new, repeats=REPEATS, level=0.05):
    found = []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        rows = draw(rng, reference).astype(np.float32)
        known = Reference.of(rows, len(rows), None, seed=seed)
        found.append(known.compare(draw(rng, new).astype(np.float32), level=level, seed=seed).p_value)
    return np.array(found)


@pytest.mark.parametrize("draw", [gaussian, heavy_tailed, duplicated], ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("sizes", [(80, 60), (200, 10)], ids=str)
def test_the_rate_of_false_alarms_is_the_one_that_is_stated(draw, sizes):
    p = p_values(draw, *sizes)
    low, high = binom.ppf([0.001, 0.999], REPEATS, 0.05)
    assert low <= (p <= 0.05).sum() <= high
    if draw is not duplicated:
        assert kstest(p, "uniform").pvalue > 0.001


def test_statistic_and_threshold_say_the_same_as_the_p_value():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows, shift = rng.normal(size=(100, 4)).astype(np.float32), 0.5 * (seed % 3)
        verdict = Reference.of(rows, 100, None, seed=seed).compare(
            (rng.normal(size=(40, 4)) + shift).astype(np.float32), level=0.05, seed=seed
        )
        assert verdict.alarm == (verdict.p_value <= 0.05) == (verdict.statistic > verdict.threshold)
        assert 0.001 <= verdict.p_value <= 1


def test_a_change_of_mean_of_spread_and_of_some_items_is_found():
    rng = np.random.default_rng(0)
    known = Reference.of(rng.normal(size=(1000, 8)).astype(np.float32), 1000, None, seed=0)
    same = rng.normal(size=(300, 8)).astype(np.float32)
    some = same.copy()
    some[:60] = 3 + 0.1 * some[:60]
    for changed in (same + 0.3, 1.4 * same, some):
        assert known.compare(changed, level=0.001, seed=1).alarm
    assert not known.compare(same, level=0.001, seed=1).alarm


def test_nothing_is_found_where_all_vectors_are_equal_and_everything_where_they_are_others():
    ones = np.ones((60, 5), np.float32)
    known = Reference.of(ones, 60, None, seed=0)
    assert known.compare(ones[:20], level=0.01, seed=0).p_value == 1
    assert known.compare(ones[:20] * 3, level=0.01, seed=0).alarm


@pytest.mark.parametrize("level", [0, 1e-5, 0.7, -1, np.nan])
def test_a_level_that_is_none_is_refused(level):
    known = Reference.of(np.eye(60, dtype=np.float32), 60, None, seed=0)
    with pytest.raises(ColdpressError, match=r"expected a rate of false alarms between 0\.0001 and 0\.5"):
        known.compare(np.eye(60, dtype=np.float32), level=level, seed=0)


def test_too_few_rows_are_refused():
    with pytest.raises(ColdpressError, match="the reference has 49 rows, expected at least 50"):
        Reference.of(np.eye(49, dtype=np.float32), 49, None, seed=0)
    known = Reference.of(np.eye(50, dtype=np.float32), 50, None, seed=0)
    with pytest.raises(ColdpressError, match="got 9 new rows, expected at least 10"):
        known.compare(np.eye(50, dtype=np.float32)[:9], level=0.01, seed=0)
