"""The measures, against scikit-learn, scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from coldpress.probes.evaluate import accuracy_change, evaluate, wilson_interval

CLASSES = ("a", "b", "c")


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(counts):
    right, items = counts
    expected = binomtest(right, items).proportion_ci(method="wilson")
    assert wilson_interval(right, items) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for truth in (0.5, 0.9, 0.97):
        intervals = [wilson_interval(int(right), 100) for right in rng.binomial(100, truth, size=2000)]
        assert 0.92 <= np.mean([low <= truth <= high for low, high in intervals]) <= 0.98


@given(st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=60))
def test_measures_are_scikit_learns(pairs):
    labels, predictions = (np.array(column) for column in zip(*pairs, strict=True))
    result = evaluate(labels, predictions, CLASSES, majority="b")
    assert result.accuracy == pytest.approx(metrics.accuracy_score(labels, predictions))
    assert result.confusion == tuple(map(tuple, metrics.confusion_matrix(labels, predictions, labels=CLASSES).tolist()))
    assert result.majority_baseline == pytest.approx(np.mean(labels == "b"))
    present = sorted(set(labels))
    recalls = metrics.recall_score(labels, predictions, labels=present, average=None)
    assert result.balanced_accuracy == pytest.approx(recalls.mean())
    expected = metrics.precision_recall_fscore_support(labels, predictions, labels=CLASSES, zero_division=0)
    for score, precision, recall, f1, support in zip(result.per_class, *expected, strict=True):
        assert (score.precision, score.recall, score.f1) == pytest.approx((precision, recall, f1))
        assert (score.support, score.predicted) == (support, np.sum(predictions == score.label))


def test_the_interval_of_a_change_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for gained, lost in ((0.02, 0.05), (0.0, 0.0), (0.1, 0.03)):
        right = 0
        for _ in range(1000):
            kind = rng.random(200)
            before, after = kind >= gained, kind < 1 - lost  # gained: wrong before, right after
            change, (low, high) = accuracy_change(before, after)
            assert low <= change <= high
            right += low <= gained - lost <= high
        assert right / 1000 >= 0.93


def test_what_both_get_wrong_does_not_widen_the_interval_of_a_change():
    before = np.arange(200) < 100
    after = before ^ (np.arange(200) % 50 == 0)
    _, (low, high) = accuracy_change(before, after)
    apart = [wilson_interval(int(one.sum()), 200) for one in (before, after)]
    assert high - low < 0.5 * min(top - bottom for bottom, top in apart)
