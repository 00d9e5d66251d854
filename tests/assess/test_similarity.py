"""CKA: what it does not see, and that it is the unbiased estimate."""

from __future__ import annotations

import numpy as np
import pytest

from coldpress.assess.similarity import cka, hsic
from coldpress.probes.features import Features


def of(X):
    return Features(np.asarray(X, dtype=np.float32), np.arange(len(X)), str)


def test_turning_scaling_and_moving_change_nothing():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 16)) * np.linspace(0.1, 2, 16)
    turn = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    found = cka([of(X), of(7 * X @ turn + 3)])
    assert found[0][1] == pytest.approx(1, abs=1e-4)
    assert found[0][1] == found[1][0]


def test_independent_features_of_many_dimensions_have_nothing_in_common():
    rng = np.random.default_rng(1)
    found = cka([of(rng.normal(size=(100, 500))), of(rng.normal(size=(100, 500)))])
    assert abs(found[0][1]) < 0.1  # without the correction 0.83


def test_it_is_the_unbiased_hsic_of_the_whole_matrices(monkeypatch):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60, 5)) + 1
    Y = X @ rng.normal(size=(5, 9)) + rng.normal(size=(60, 9))
    K, L, n = X @ X.T, Y @ Y.T, 60
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)
    one = np.ones(n)
    whole = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    expected = (np.trace(K @ L) + whole - 2 / (n - 2) * one @ K @ L @ one) / (n * (n - 3))
    assert hsic(of(X), of(Y)) == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr("coldpress.store.blocks.BLOCK_BYTES", 4 * 9 * 7)
    assert hsic(of(X), of(Y)) == pytest.approx(expected, rel=1e-5)
