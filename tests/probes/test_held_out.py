"""Predictions of items by a logistic regression that has not seen them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from coldpress.probes.features import Features
from coldpress.probes.held_out import held_out_predictions
from coldpress.probes.splits import fold_numbers


def draw(rows, classes, seed=0, signal=0.6):
    rng = np.random.default_rng(seed)
    codes = np.arange(rows) % classes
    X = signal * rng.normal(size=(classes, 12))[codes] + rng.normal(size=(rows, 12)) + 1
    return X.astype(np.float32), codes, fold_numbers(codes, 0)


@pytest.mark.parametrize("classes", [2, 4])
def test_each_fold_is_predicted_as_scikit_learn_does_from_the_others(classes):
    X, codes, folds = draw(300, classes)
    found = held_out_predictions(Features(X, np.arange(300), str), codes, folds, columns=classes, grid=(0.1,))
    for fold in range(5):
        model = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(X[folds != fold], codes[folds != fold])
        assert (found[folds == fold] == model.predict(X[folds == fold])).mean() > 0.98


def test_a_good_strength_is_chosen():
    X, codes, folds = draw(200, 4, seed=1)
    features = Features(X, np.arange(200), str)
    alone = [
        (held_out_predictions(features, codes, folds, columns=4, grid=(C,)) == codes).mean() for C in (1e-5, 1e-2, 1e3)
    ]
    assert (held_out_predictions(features, codes, folds, columns=4) == codes).mean() >= max(alone) - 0.03


def test_labels_that_mean_nothing_are_not_learned():
    shares = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X, codes = rng.normal(size=(100, 40)).astype(np.float32), rng.permutation(np.arange(100) % 2)
        folds = fold_numbers(codes, seed)
        shares.append((held_out_predictions(Features(X, np.arange(100), str), codes, folds, columns=2) == codes).mean())
    assert 0.4 < np.mean(shares) < 0.53
