"""LogME, H-score and NLEEP: equal to their definitions, and to the numbers of the authors' own code."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf, ledoit_wolf_shrinkage
from sklearn.datasets import load_digits, load_iris, load_wine

from coldpress.assess import scores
from coldpress.assess.judge import turned
from coldpress.assess.moments import ClassMoments
from coldpress.assess.scores import h_score, log_evidence, nleep
from coldpress.assess.scores import ledoit_wolf as shrinkage_of
from coldpress.probes.features import Features


def drawn(seed, rows, dim, classes, signal, shift=0.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    centres = rng.normal(size=(classes, dim))
    return shift + signal * centres[labels] + rng.normal(size=(rows, dim)), labels


def real(load, scale=1.0):
    data = load()
    return data.data / scale, data.target


# By LogME.py of github.com/thuml/LogME at 3a08950 (_fit_icml) and hscore.py of Transfer-Learning-Library at 29a228d, on
# the same arrays. The other variant in LogME.py stops at a relative change of 1e-3: it is 3e-4 away; and it forgets the
# dimensions that no item has.
PUBLISHED = {
    "noise": (lambda: drawn(0, 500, 20, 5, 0.0), -0.6111395, 0.153955),
    "classes": (lambda: drawn(1, 500, 20, 5, 0.5), -0.4064272, 1.684314),
    "far from zero": (lambda: drawn(2, 400, 64, 3, 0.3, 1.0), -0.2469054, 1.466058),
    "more dimensions than items": (lambda: drawn(3, 100, 300, 4, 0.5), 0.1422576, 3.0),
    "digits": (lambda: real(load_digits, 16.0), 0.2702773, 5.917909),
    "iris": (lambda: real(load_iris), -0.1600616, 1.191899),
    "wine": (lambda: real(load_wine), -0.0044654, 1.705821),
}


def of(X):
    return Features(np.asarray(X, dtype=np.float32), np.arange(len(X)), str)


def moments(X, labels):
    return ClassMoments.of(of(X), np.asarray(labels), int(np.max(labels)) + 1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_authors_code_gives_the_same_numbers(name):
    draw, log_me, h = PUBLISHED[name]
    found = moments(*draw())
    assert log_evidence(found) == pytest.approx(log_me, abs=1e-4)
    assert h_score(found) == pytest.approx(h, abs=1e-4)


@pytest.mark.parametrize(("rows", "dim"), [(60, 8), (100, 130)])
def test_logme_is_the_highest_evidence_that_a_search_finds(rows, dim, monkeypatch):
    monkeypatch.setattr(scores, "EPSILON", 1e-12)  # what the authors add moves it by up to 4e-4
    X, labels = drawn(4, rows, dim, 3, 0.3)

    def highest(y):
        def evidence(logs):
            alpha, beta = np.exp(logs)
            return -multivariate_normal(np.zeros(rows), np.eye(rows) / beta + X @ X.T / alpha).logpdf(y) / rows

        starts = ([0.0, 0.0], [3.0, 1.0], [-2.0, 2.0])
        options = {"xatol": 1e-7, "fatol": 1e-10}
        return max(-minimize(evidence, start, method="Nelder-Mead", options=options).fun for start in starts)

    expected = np.mean([highest((labels == code).astype(float)) for code in range(3)])
    assert log_evidence(moments(X, labels)) == pytest.approx(expected, abs=1e-5)


def test_blocks_do_not_matter(monkeypatch):
    X, labels = drawn(5, 700, 30, 4, 0.4)
    whole = moments(X, labels)
    monkeypatch.setattr("coldpress.store.blocks.BLOCK_BYTES", 4 * 30 * 64)
    parts = moments(X, labels)
    for score in (log_evidence, h_score, lambda found: h_score(found, None)):
        assert score(parts) == pytest.approx(score(whole), abs=1e-7)


def test_vectors_of_more_dimensions_than_items_are_turned_without_a_change():
    X, labels = drawn(6, 80, 200, 3, 0.5, shift=0.3)
    small = turned(of(X))
    assert small.dim <= 80
    found, expected = ClassMoments.of(small, labels, 3, 200), moments(X, labels)
    assert log_evidence(found) == pytest.approx(log_evidence(expected), abs=1e-5)
    assert h_score(found, None) == pytest.approx(h_score(expected, None), abs=1e-5)
    Y = small.array(np.float64)
    np.testing.assert_allclose(Y @ Y.T, X @ X.T, atol=1e-3)


def test_h_score_of_the_labels_themselves_is_the_number_of_classes_less_one():
    labels = np.arange(300) % 5
    assert h_score(moments(np.eye(5)[labels], labels)) == pytest.approx(4, abs=1e-6)
    assert h_score(moments(np.eye(2)[labels % 2], labels % 2)) == pytest.approx(1, abs=1e-6)


def test_h_score_of_independent_features_is_near_zero_and_shrinkage_sees_through_few_items():
    X, labels = drawn(7, 20_000, 5, 4, 0.0)
    assert h_score(moments(X, labels)) < 0.003
    X, labels = drawn(8, 100, 90, 2, 0.0)
    assert h_score(moments(X, labels)) > 0.7
    assert h_score(moments(X, labels), None) < 0.05


def test_h_score_of_two_normal_classes_is_what_their_distance_says():
    rng = np.random.default_rng(9)
    labels = np.arange(40_000) % 2
    X = rng.normal(size=(len(labels), 3)) + np.outer(labels, [2.0, 0.0, 0.0])
    assert h_score(moments(X, labels)) == pytest.approx(1 / (1 + 1), abs=0.02)  # between 1, within 1


def test_the_shrinkage_is_that_of_ledoit_and_wolf():
    X, labels = drawn(10, 150, 20, 3, 0.8)
    X = X * np.linspace(0.2, 3, 20)
    found = moments(X, labels)
    X = np.asarray(X, dtype=np.float32).astype(np.float64)
    assert shrinkage_of(found) == pytest.approx(ledoit_wolf_shrinkage(X), abs=1e-6)
    covariance, share = ledoit_wolf(X)
    means = np.stack([X[labels == code].mean(axis=0) for code in range(3)])[labels]
    expected = (1 - share) * np.trace(np.linalg.solve(covariance, np.cov(means, rowvar=False, bias=True)))
    assert h_score(found, None) == pytest.approx(expected, abs=1e-5)


def test_nleep_is_zero_where_clusters_are_classes_and_chance_where_labels_say_nothing():
    X, labels = drawn(11, 600, 10, 3, 6.0)
    assert nleep(X, labels) > -0.01
    independent = np.random.default_rng(0).integers(0, 3, 600)
    assert nleep(X, independent) == pytest.approx(-np.log(3), abs=0.03)
    assert nleep(X, labels) == nleep(X, labels)
