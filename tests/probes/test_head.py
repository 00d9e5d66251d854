"""The head on disk: equal predictions without pickle, the fingerprint enforced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from coldpress.errors import ColdpressError, FingerprintMismatch, StoreError
from coldpress.probes import Head, Recipe, fit_probe
from coldpress.types import Fingerprint


@pytest.fixture(scope="module")
def trained(make_store, sample):
    X, y = sample(90)
    return fit_probe(make_store(X, label=y), recipe=Recipe(C=1.0)).head


@given(classes=st.integers(2, 5), text=st.booleans(), standardize=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_saved_and_opened_it_predicts_the_same(
    *, tmp_path_factory, make_store, sample, classes, text, standardize, seed
):
    X, y = sample(80, classes, seed)
    labels = [f"class {label}" for label in y] if text else y
    head = fit_probe(make_store(X, label=labels), recipe=Recipe(C=10.0, standardize=standardize)).head
    directory = tmp_path_factory.mktemp("heads") / "deeper" / "head"
    head.save(directory)
    opened = Head.open(directory)
    np.testing.assert_array_equal(opened.predict(X), head.predict(X))
    np.testing.assert_array_equal(opened.predict_proba(X), head.predict_proba(X))
    assert opened.predict(X).dtype.kind == ("U" if text else "i")
    assert (opened.classes, opened.setting, opened.model, opened.fingerprint, opened.report) == (
        (head.classes, head.setting, head.model, head.fingerprint, head.report)
    )


@pytest.mark.parametrize(("standardize", "kind"), [(False, LogisticRegression), (True, Pipeline)])
def test_the_estimator_is_scikit_learns(tmp_path, make_store, sample, standardize, kind):
    X, y = sample(90)
    fit_probe(make_store(X, label=y), recipe=Recipe(C=1.0, standardize=standardize)).head.save(tmp_path)
    head = Head.open(tmp_path)
    assert isinstance(head.estimator, kind)
    assert head.estimator.score(X, y) == np.mean(head.predict(X) == y)
    uncalibrated = replace(head, temperature=1.0).predict_proba(X)
    np.testing.assert_allclose(head.estimator.predict_proba(X.astype(np.float32)), uncalibrated, atol=1e-6)
    assert clone(head.estimator).fit(X, y).score(X, y) > 0.8


def test_nearest_neighbours_stay_in_the_file_and_are_scikit_learns(tmp_path, make_store, sample):
    X, y = sample(60_000, classes=4, spread=2.0)
    result = fit_probe(make_store(X, label=y, shard_rows=60_000), test_size=0.05, recipe=Recipe(heads=["knn"]))
    assert [one.setting for one in result.candidates] == [10, 20, 100, 200]
    assert result.head.nbytes == result.to_json()["head_bytes"] == 57_000 * (12 * 2 + 4)
    result.head.save(tmp_path)
    head = Head.open(tmp_path)
    assert isinstance(head.tensors["vectors"], np.memmap)
    np.testing.assert_array_equal(head.predict_proba(X[:500]), result.head.predict_proba(X[:500]))
    np.testing.assert_array_equal(head.predict(X[:500]), head.estimator.predict(X[:500]))
    with pytest.raises(ColdpressError, match="nearest neighbours have no coefficients"):
        head.coef  # noqa: B018
    content = (tmp_path / "head.safetensors").read_bytes()
    (tmp_path / "head.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match="damaged or not a head"):
        Head.open(tmp_path)


def test_a_store_is_predicted_block_by_block_and_its_space_checked(trained, make_store, sample, monkeypatch):
    X, _ = sample(100, seed=5)
    whole = trained.predict_proba(X)
    monkeypatch.setattr("coldpress.store.blocks.BLOCK_BYTES", 7 * 4 * 12)
    np.testing.assert_allclose(trained.predict_proba(make_store(X)), whole, atol=1e-12)
    np.testing.assert_array_equal(trained.predict(make_store(X)), trained.predict(X))
    with pytest.raises(FingerprintMismatch, match="weights: abc != other"):
        trained.predict(make_store(X, space="other"))


def test_no_vectors_no_predictions(trained):
    assert trained.predict(np.empty((0, 12))).shape == (0,)
    assert trained.predict_proba(np.empty((0, 12))).shape == (0, 3)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones(12), r"shape \(12,\), expected \(N, 12\)"),
        (np.ones((2, 11)), r"shape \(2, 11\), expected \(N, 12\)"),
        (np.where(np.eye(12) > 0, np.inf, 1)[:3], "vector 0 holds NaN or Inf"),
    ],
)
def test_bad_vectors_are_refused(trained, vectors, message):
    with pytest.raises(ColdpressError, match=message):
        trained.predict(vectors)


def test_vectors_of_another_space_are_refused_with_what_differs(trained):
    trained.check(Fingerprint({"weights": "abc"}))
    with pytest.raises(FingerprintMismatch, match="weights: abc != other"):
        trained.check(Fingerprint({"weights": "other"}))


def test_the_description_can_be_read_by_others(tmp_path, trained):
    trained.save(tmp_path)
    description = json.loads((tmp_path / "head.json").read_text())
    assert description["classes"] == [0, 1, 2]
    assert description["report"]["evaluation"]["items"] == 18
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.json", "head.safetensors"]


@pytest.mark.parametrize("renames_before_failure", [0, 1])
def test_a_save_that_fails_leaves_one_whole_head(
    *, tmp_path, trained, make_store, sample, monkeypatch, renames_before_failure
):
    trained.save(tmp_path)
    X, y = sample(80, classes=2)
    other = fit_probe(make_store(X, label=y), recipe=Recipe(C=1.0)).head
    left, rename = renames_before_failure, Path.replace

    def fail_when_out_of_space(self, target):
        nonlocal left
        if left == 0:
            raise OSError(28, "No space left on device")
        left -= 1
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail_when_out_of_space)
    with pytest.raises(StoreError, match="No space left"):
        other.save(tmp_path)
    assert Head.open(tmp_path).classes == (trained.classes if renames_before_failure == 0 else other.classes)


def test_what_is_not_a_head_is_named(tmp_path, trained):
    with pytest.raises(StoreError, match=r"has no head\.safetensors: make one with coldpress probe"):
        Head.open(tmp_path)
    trained.save(tmp_path)
    weights = tmp_path / "head.safetensors"
    content = weights.read_bytes()
    for harmed in (b"", content[:50], content[:-1], content.replace(b"coldpress-head", b"coldpress-tail")):
        weights.write_bytes(harmed)
        with pytest.raises(StoreError, match=r"head\.safetensors"):
            Head.open(tmp_path)
