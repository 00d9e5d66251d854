"""Heads from moments alone: the weights, and what cross-validation says of them, are scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.neighbors import NearestCentroid

from coldpress.probes import closed
from coldpress.probes.calibrate import temperature
from coldpress.probes.features import Features


def forms(X, y, folds, **options):
    return closed.ClosedForms.of(Features(X, np.arange(len(X)), str), y, folds, columns=y.max() + 1, **options)


def theirs(head, setting, **options):
    if head == "ridge":
        return RidgeClassifier(alpha=setting, **options)
    return (
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage=setting, **options) if head == "lda" else NearestCentroid()
    )


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X = X + np.random.default_rng(0).normal(size=X.shape)  # no constant pixel: scikit-learn's lstsq would drop it
    return X.astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("head", closed.HEADS)
def test_weights_and_predictions_are_scikit_learns(digits, head, classes):
    X, y = digits
    X, y = X[y < classes], y[y < classes]
    found = forms(X, y, np.arange(len(y)) % 5)
    for setting in found.settings(head)[::4]:
        ours = closed.estimator(head, *found.fit(head, setting), np.arange(classes), setting)
        reference = theirs(head, setting).fit(X.astype(np.float64), y)
        if head == "centroid":
            np.testing.assert_allclose(ours.centroids_, reference.centroids_, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_allclose(
                ours.coef_, np.atleast_2d(reference.coef_), atol=1e-3 * np.abs(reference.coef_).max()
            )
            np.testing.assert_allclose(ours.intercept_, reference.intercept_, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(ours.predict(X), reference.predict(X))
        assert clone(ours).fit(X, y).score(X, y) > 0.5


@pytest.mark.parametrize("head", closed.HEADS)
def test_the_search_says_what_cross_validation_with_scikit_learn_says(digits, head):
    X, y = digits[0][:700], digits[1][:700]
    folds = np.arange(700) % 3
    found = forms(X, y, folds)
    for one in found.search(head)[::3]:
        fits = [theirs(head, one.setting).fit(X[folds != fold], y[folds != fold]) for fold in range(3)]
        parts = [(X[folds == fold], y[folds == fold]) for fold in range(3)]
        scores = [fit.score(*part) for fit, part in zip(fits, parts, strict=True)]
        assert one.score == pytest.approx(np.mean(scores), abs=1e-9)
        if head == "lda":
            losses = [log_loss(part[1], fit.predict_proba(part[0])) for fit, part in zip(fits, parts, strict=True)]
            assert one.loss == pytest.approx(np.mean(losses), rel=1e-3)


def test_balanced_classes_weigh_the_same(digits):
    X, y = digits[0], np.where(digits[1] == 1, 0, digits[1])
    y = np.unique(y, return_inverse=True)[1]
    found = forms(X, y, np.arange(len(y)) % 5, balanced=True)
    coef, _ = found.fit("ridge", 10.0)
    np.testing.assert_allclose(
        coef, RidgeClassifier(alpha=10.0, class_weight="balanced").fit(X.astype(np.float64), y).coef_, atol=1e-5
    )
    coef, _ = found.fit("lda", 0.1)
    reference = theirs("lda", 0.1, priors=np.full(9, 1 / 9)).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(coef, reference.coef_, atol=1e-3 * np.abs(reference.coef_).max())


def test_a_temperature_makes_scores_probabilities():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3))
    chances = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    codes = (chances.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert temperature(logits, codes) == pytest.approx(0.5, rel=0.03)


def test_discriminants_of_one_row_a_class_point_to_the_nearest(digits):
    X, y = digits
    firsts = np.array([np.flatnonzero(y == label)[0] for label in range(10)])
    found = forms(X[firsts], y[firsts], np.zeros(10, dtype=int))
    nearest = ((X[:, None] - X[firsts]) ** 2).sum(axis=2).argmin(axis=1)
    for setting in found.settings("lda"):
        ours = closed.estimator("lda", *found.fit("lda", setting), np.arange(10), setting)
        assert (ours.predict(X) == nearest).mean() > 0.99
