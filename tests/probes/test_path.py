"""The path of logistic regression: every point of it is the one that scikit-learn finds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss

from coldpress.probes import logistic, passes
from coldpress.probes.candidates import best
from coldpress.probes.features import Features


def features(X):
    return Features(X, np.arange(len(X)), str)


def objective(model, X, y, weights):
    """What scikit-learn minimises, as a weighted mean."""
    size = weights.sum()
    loss = log_loss(y, model.predict_proba(X), sample_weight=weights)
    coef = model.coef_ if len(model.classes_) > 2 else model.coef_[:1]
    return loss + (coef**2).sum() / (2 * model.C * size)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X.astype(np.float32), y


@pytest.mark.parametrize("C", [1e-6, 1e-3, 1.0, 1e5])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_fit_has_scikit_learns_coefficients_and_loss(digits, C, classes, balanced):
    X, y = digits
    X, y = X[y < classes][:1200], y[y < classes][:1200]
    y = np.where(y == 1, 0, y) if balanced and classes > 2 else y  # one class is twice as frequent
    names, codes = np.unique(y, return_inverse=True)
    coef, intercept, _ = logistic.fit(features(X), codes, C, columns=len(names), balanced=balanced)
    ours = logistic.estimator(coef, intercept, names, C)
    kind = "balanced" if balanced else None
    theirs = LogisticRegression(C=C, class_weight=kind, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    theirs.fit(X.astype(np.float64), y)
    weights = logistic.class_weights(codes, len(names), np.ones(len(X)), balanced)
    assert objective(ours, X, y, weights) == pytest.approx(objective(theirs, X, y, weights), abs=1e-6)
    if C <= 1:
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-3 * np.abs(theirs.coef_).max())
        shift = theirs.intercept_.mean() if classes > 2 else 0
        np.testing.assert_allclose(ours.intercept_, theirs.intercept_ - shift, rtol=1e-3, atol=2e-3)


def test_the_search_says_what_cross_validation_with_scikit_learn_says(digits):
    X, y = digits[0][:600].astype(np.float64), digits[1][:600]
    folds = np.arange(600) % 3
    found = logistic.search_C(features(X), y, folds, columns=10)
    assert [one.setting for one in found.candidates] == pytest.approx(np.logspace(-6, 5, 45))
    for one in found.candidates[8:33:8]:
        scores, losses = [], []
        for fold in range(3):
            model = LogisticRegression(C=one.setting, tol=1e-7, max_iter=5000).fit(X[folds != fold], y[folds != fold])
            held_out = folds == fold
            scores.append(model.score(X[held_out], y[held_out]))
            losses.append(log_loss(y[held_out], model.predict_proba(X[held_out]), labels=model.classes_))
        assert one.score == pytest.approx(np.mean(scores), abs=0.004)
        assert one.loss == pytest.approx(np.mean(losses), rel=0.01)
    assert best(found.candidates).setting == found.C


def test_several_labels_an_item_are_as_many_regressions(digits):
    X, y = digits[0][:500], digits[1][:500]
    Y = np.stack([y % 2, y > 4, y == 0], axis=1).astype(np.float32)
    coef, intercept, _ = logistic.fit(features(X), Y, 0.01, columns=3)
    for label in range(3):
        theirs = LogisticRegression(C=0.01, tol=1e-8, max_iter=5000).fit(X.astype(np.float64), Y[:, label])
        np.testing.assert_allclose(coef[label], theirs.coef_[0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(intercept[label], theirs.intercept_[0], rtol=1e-3, atol=1e-3)
    found = logistic.search_C(features(X), Y, np.arange(500) % 2, columns=3)
    predictions = np.zeros_like(Y)
    for fold in range(2):
        part = np.arange(500) % 2 == fold
        V, b, _ = logistic.fit(features(X[~part]), Y[~part], found.C, columns=3)
        predictions[part] = X[part] @ V.T + b > 0
    expected = np.mean([f1_score(Y[fold::2], predictions[fold::2], average="micro") for fold in range(2)])
    assert best(found.candidates).score == pytest.approx(expected, abs=0.01)


def test_threads_and_memory_change_nothing(digits, monkeypatch):
    X, y = digits[0][:700], digits[1][:700]
    folds = np.arange(700) % 2
    expected = logistic.search_C(features(X), y, folds, columns=10).candidates
    monkeypatch.setattr("coldpress.probes.logistic.cores", lambda: 3)
    monkeypatch.setattr(passes, "KEPT_BYTES", 0)  # every pass reads the rows again
    assert logistic.search_C(features(X), y, folds, columns=10).candidates == expected
