"""Nearest neighbours: scikit-learn's, whatever the blocks and threads, with ties to the first row."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from coldpress.probes import knn
from coldpress.probes.features import Features


def voters(X, y, folds=None):
    return knn.Neighbours(Features(X, np.arange(len(X)), str), y, int(y.max()) + 1, folds)


def reference(X, y, queries, k):
    """Shares of the votes, by scikit-learn's neighbours in float64."""
    X, queries = normalize(X.astype(np.float64)), normalize(queries.astype(np.float64))
    distances, places = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(X).kneighbors(queries)
    weights = np.exp((1 - distances) / 0.07)
    shares = np.stack([(weights * (y[places] == label)).sum(axis=1) for label in range(y.max() + 1)], 1)
    return shares / shares.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X - X.mean(axis=0)).astype(np.float32), y


def test_every_k_of_one_pass_is_what_scikit_learn_finds(digits):
    X, y = digits
    found = voters(X[:1400], y[:1400]).shares(X[1400:], knn.KS)
    for shares, k in zip(found, knn.KS, strict=True):
        expected = reference(X[:1400], y[:1400], X[1400:], k)
        np.testing.assert_allclose(shares, expected, atol=1e-4)
        np.testing.assert_array_equal(shares.argmax(axis=1), expected.argmax(axis=1))


def test_blocks_threads_and_memory_change_no_bit(digits, monkeypatch):
    X, y = digits
    expected = voters(X, y).shares(X[:300], (10, 200))
    for block, chunk, kept, threads in ((1, 300, 0, 1), (37, 1, 0, 3), (640, 64, 1 << 30, 2)):
        monkeypatch.setattr(knn, "BLOCK_ROWS", block)
        monkeypatch.setattr(knn, "CHUNK", chunk)
        monkeypatch.setattr(knn, "KEPT_BYTES", kept)
        monkeypatch.setattr(knn, "MOST_QUERIES", 120)
        monkeypatch.setattr("coldpress.store.blocks.BLOCK_BYTES", 4 * 64 * 900)
        monkeypatch.setattr("coldpress.probes.knn.cores", lambda threads=threads: threads)
        some = voters(X, y)
        for _ in range(2):  # the second from memory
            np.testing.assert_array_equal(some.shares(X[:300], (10, 200)), expected)


def test_among_equal_cosines_the_first_rows_count(digits, monkeypatch):
    monkeypatch.setattr(knn, "BLOCK_ROWS", 50)
    base = digits[0][:40]
    X = np.concatenate([base, 2 * base, 0.5 * base])  # the same directions three times
    cosines, places = voters(X, np.zeros(120, dtype=int)).nearest(base, 2)
    np.testing.assert_array_equal(places, np.arange(40)[:, None] + [0, 40])
    np.testing.assert_array_equal(cosines[:, 0], cosines[:, 1])
    _, places = voters(X, np.zeros(120, dtype=int), np.arange(120) // 40).nearest(base, 1, fold=0)
    np.testing.assert_array_equal(places[:, 0], np.arange(40) + 40)


def test_the_search_says_what_cross_validation_with_scikit_learn_says(digits):
    X, y = digits[0][:700], digits[1][:700]
    folds = np.arange(700) % 3
    for one in knn.search(Features(X, np.arange(700), str), y, folds, columns=10):
        scores = []
        for fold in range(3):
            shares = reference(X[folds != fold], y[folds != fold], X[folds == fold], int(one.setting))
            scores.append(np.mean(shares.argmax(axis=1) == y[folds == fold]))
        assert one.score == pytest.approx(np.mean(scores), abs=1e-9)
        assert one.loss > 0


def test_few_rows_have_few_neighbours(digits):
    X, y = digits[0][:15], digits[1][:15]
    (one,) = knn.search(Features(X, np.arange(15), str), y, np.arange(15) % 3, columns=10)
    assert one.setting == 10
    assert knn.settings(np.array([0, 0, 1, 1])) == (2,)
    assert voters(X, y).shares(np.zeros((0, 64), np.float32), (3,)).shape == (1, 0, 10)


def test_large_training_parts_are_classified_in_part(digits, monkeypatch):
    X, y = digits
    features, folds = Features(X, np.arange(len(X)), str), np.arange(len(X)) % 5
    whole = knn.search(features, y, folds, columns=10)
    monkeypatch.setattr(knn, "MOST_PRODUCTS", 1)
    part = knn.search(features, y, folds, columns=10)
    assert part != whole
    assert [one.score for one in part] == pytest.approx([one.score for one in whole], abs=0.02)
