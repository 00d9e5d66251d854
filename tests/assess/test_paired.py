"""Paired tests in cross-validation: how often they cry wolf, and what they find."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from coldpress.assess.paired import ALPHA, adjusted, difference


def test_equal_features_are_rarely_called_different():
    """Both halves of the features say as much as the other: whoever wins does so by chance."""
    alarms, repeats = 0, 100
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        labels = np.arange(120) % 2
        X = rng.normal(size=(120, 20)) + 0.35 * labels[:, None]
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        right = [
            cross_val_predict(RidgeClassifier(), half, labels, cv=folds) == labels for half in (X[:, :10], X[:, 10:])
        ]
        alarms += difference(*right, 5).p < ALPHA
    assert alarms <= ALPHA * repeats


def test_a_real_difference_is_found_with_its_sign():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(500) < 0.9, rng.random(500) < 0.8
    found = difference(ours, theirs, 5)
    assert found.better
    assert not found.worse
    assert found.interval[0] < 0.1 < found.interval[1]
    back = difference(theirs, ours, 5)
    assert (back.change, back.worse) == (-found.change, True)


def test_the_same_answers_are_no_difference():
    right = np.arange(50) % 3 > 0
    found = difference(right, right, 5)
    assert (found.change, found.interval, found.p) == (0.0, (0.0, 0.0), 1.0)


def test_what_is_found_among_many_comparisons_has_to_be_clearer():
    rng = np.random.default_rng(3)
    ours = rng.random(400) < 0.70
    one = difference(ours | (rng.random(400) < 0.16), ours, 5)
    assert one.better
    none = [difference(rng.random(400) < 0.8, rng.random(400) < 0.8, 5) for _ in range(4)]
    assert adjusted([one, *none])[0].p_adjusted == pytest.approx(5 * one.p)
