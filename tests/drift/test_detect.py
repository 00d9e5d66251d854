"""Two stores compared: whether, how much, and what drives it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from coldpress.drift import detect_drift
from coldpress.drift.effects import effects_of, holm, kolmogorov_smirnov
from coldpress.drift.moments import MomentSums, frechet_distance
from coldpress.errors import ColdpressError, FingerprintMismatch


def test_a_change_is_found_measured_and_explained(make_store, cloud):
    kinds = ["odd"] * 300 + ["usual", "other"] * 600
    tokens = [*range(200, 500), *[20 + i % 60 for i in range(1200)]]
    new = make_store(cloud(1500, 2, moved=300), kind=kinds, tokens=tokens, text=[f"text {i}" for i in range(1500)])
    reference = make_store(cloud(2000, 1), kind=["usual", "other"] * 1000, tokens=[20 + i % 60 for i in range(2000)])
    drift = detect_drift(reference, new)
    assert drift.verdict.alarm
    assert drift.verdict.p_value == 0.001
    assert drift.effects.separation.interval[0] < 0.2 < drift.effects.separation.interval[1] + 0.03
    assert drift.effects.separation.auc > 0.55
    assert drift.effects.shifted > 10
    assert 0.15 < drift.driving.unlike < 0.25
    assert {item.metadata["kind"] for item in drift.driving.items} == {"odd"}
    assert drift.driving.items[0].metadata["text"] == f"text {drift.driving.items[0].key.split()[1]}"
    scores = [item.score for item in drift.driving.items]
    assert scores == sorted(scores, reverse=True)
    first, second = drift.driving.values[:2]
    assert (first.column, first.value, first.reference) == ("kind", "odd", 0)
    assert first.unlike > 0.9
    assert first.other is not None
    assert first.other < 0.1
    assert second.column == "tokens"
    assert second.value.startswith("above")
    assert json.loads(json.dumps(drift.to_json()))["driving"]["values"][0]["value"] == "odd"


def test_nothing_is_found_where_nothing_has_changed(make_store, cloud):
    drift = detect_drift(make_store(cloud(1200, 3)), make_store(cloud(900, 4), dtype="float16"))
    assert not drift.verdict.alarm
    assert abs(drift.effects.separation.auc - 0.5) < 0.03
    assert drift.effects.separation.interval[0] == 0
    assert drift.effects.shifted == 0
    assert 0 <= drift.driving.unlike < 0.03
    assert drift.driving.values == ()


def test_what_is_missing_is_named(make_store, cloud):
    reference = make_store(cloud(1200, 5, moved=240), kind=["gone"] * 240 + ["kept"] * 960)
    drift = detect_drift(reference, make_store(cloud(800, 6)))
    assert drift.verdict.alarm
    assert {item.metadata["kind"] for item in drift.driving.missing} == {"gone"}


def test_the_same_stores_and_seed_give_the_same(make_store, cloud):
    reference, new = make_store(cloud(6000, 7)), make_store(cloud(5000, 8, moved=150))
    one, other = (detect_drift(reference, new, seed=5).to_json() for _ in range(2))
    assert one | {"seconds": 0} == other | {"seconds": 0}
    assert one["tested"] == [4096, 4096]


def test_windows_and_values_of_a_column_are_tested_each(make_store, cloud):
    days = [f"day {i // 300}" for i in range(1200)]
    new = np.concatenate([cloud(900, 9), cloud(300, 10, moved=100)])
    reference, store = make_store(cloud(1500, 11)), make_store(new, day=days)
    by_day = detect_drift(reference, store, by="day").windows
    assert [(one.name, one.items) for one in by_day] == [(f"day {i}", 300) for i in range(4)]
    assert [one.verdict.alarm for one in by_day] == [False, False, False, True]
    by_count = detect_drift(reference, store, window=500).windows
    assert [(one.name, one.items) for one in by_count] == [("0", 500), ("500", 500), ("1,000", 200)]
    assert [one.verdict.alarm for one in by_count] == [False, True, False]


def test_items_without_a_value_are_in_no_window(make_store, cloud):
    """Nor is a shard without a row, which has been written before any row had a column."""
    reference, values = make_store(cloud(1500, 11)), [float(i % 2) if i % 3 else float("nan") for i in range(1800)]
    store = make_store(cloud(1800, 12), failed=200, shard_rows=200, score=values)
    found = detect_drift(reference, store, by="score", items=50)
    assert [(one.name, one.items) for one in found.windows] == [("0.0", 534), ("1.0", 533)]
    assert not any(np.isnan(item.metadata.get("score", 0)) for item in found.driving.items)


def test_bad_requests_say_what_to_do(make_store, cloud):
    reference, new = make_store(cloud(100, 1)), make_store(cloud(100, 2), day=list(range(100)))
    for message, arguments, options in (
        ("has 9 rows, expected at least 10 as new data", (reference, make_store(cloud(9, 1))), {}),
        ("has 40 rows, expected at least 50 as reference", (make_store(cloud(40, 1)), new), {}),
        ("no output 'tokens'", (reference, new), {"output": "tokens"}),
        ("no metadata column 'week', expected one of key, ", (reference, new), {"by": "week"}),
        ("a window of 5 items is too small", (reference, new), {"window": 5}),
        ("both given", (reference, new), {"window": 50, "by": "day"}),
        ("every value of column 'day' has fewer than 10 items", (reference, new), {"by": "day"}),
    ):
        with pytest.raises(ColdpressError, match=message):
            detect_drift(*arguments, **options)
    with pytest.raises(FingerprintMismatch, match=r"reference != new: weights: abc != other.*embed both with"):
        detect_drift(reference, make_store(cloud(100, 2), space="other"))


def test_a_row_that_is_not_finite_is_named(make_store, cloud):
    reference, new = make_store(cloud(100, 1)), make_store(cloud(100, 2))
    file = next((new.path / "embeddings").glob("*.npy"))
    rows = np.load(file)
    rows[7, 3] = np.nan
    np.save(file, rows)
    with pytest.raises(ColdpressError, match=r"vector 'item 7' \(row 7\) holds NaN or Inf"):
        detect_drift(reference, new)


def test_moments_of_blocks_are_those_of_all_rows(cloud):
    x = cloud(1000, 1) * 5 + 100
    sums = MomentSums(24)
    for start in range(0, 1000, 170):
        sums.add(x[start : start + 170])
    found = sums.moments()
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(found.covariance, np.cov(x.T.astype(np.float64)), rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_a_dimension_that_never_varies_is_no_trouble(make_store, cloud):
    old, new = cloud(300, 1), cloud(200, 2)
    old[:, 5] = new[:, 5] = 0.1
    drift = detect_drift(make_store(old), make_store(new))
    assert drift.shift[5] == 0
    assert not drift.verdict.alarm


def test_the_frechet_distance_of_normals_is_the_closed_form():
    def moments(mean, scale):
        sums = MomentSums(2)
        sums.add((np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * scale + mean).astype(np.float32))
        return sums.moments()

    one, other = moments((0, 0), (1, 2)), moments((3, 4), (2, 2))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, other) == pytest.approx(25 + 4 / 3)  # (2 - 1)^2 of variances 4/3 as large


def test_ks_is_scipys_in_the_limit_also_with_ties():
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(400, 5)).astype(np.float32), rng.normal(0.1, 1, (300, 5)).astype(np.float32)
    one[:, 4], other[:, 4] = np.rint(one[:, 4]), np.rint(other[:, 4])
    from scipy.special import kolmogorov

    expected = [kolmogorov(np.sqrt(400 * 300 / 700) * ks_2samp(one[:, d], other[:, d]).statistic) for d in range(5)]
    np.testing.assert_allclose(kolmogorov_smirnov(one, other), expected, rtol=1e-6)


def test_holm_rejects_step_by_step():
    assert (holm(np.array([0.04, 0.001, 0.02, 0.5])) <= 0.05).tolist() == [False, True, False, False]
    assert (holm(np.array([0.012, 0.001, 0.016, 0.5])) <= 0.05).tolist() == [True, True, True, False]
    assert holm(np.array([0.04, 0.01, 0.5])) == pytest.approx([0.08, 0.03, 0.5])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


def test_a_covariance_of_too_few_rows_is_not_spoken_of(cloud):
    def known(rows):
        sums = MomentSums(24)
        sums.add(rows)
        return rows, sums.moments()

    found, _ = effects_of(known(cloud(40, 1)), known(cloud(30, 2)), level=0.01, seed=0)
    assert found.frechet is None
    assert found.frechet_mean > 0
