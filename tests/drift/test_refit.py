"""A head trained again with labels of the new data."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from coldpress.drift import refit_head
from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.probes import Head, Recipe, fit_probe


def draw(rows, seed, turn=0.0):
    """Vectors of two classes; `turn` moves what tells them apart from the first dimension to the second."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    x = rng.normal(size=(rows, 8))
    sign = 2.0 * labels - 1
    x[:, 0] += 1.5 * np.cos(turn) * sign
    x[:, 1] += 1.5 * np.sin(turn) * sign
    return x.astype(np.float32), ["yes" if label else "no" for label in labels]


@pytest.fixture(scope="module")
def stores(make_store):
    (x, y), (moved, z) = draw(400, 0), draw(300, 1, turn=1.4)
    return make_store(x, label=y), make_store(moved, label=z)


def test_a_head_learns_what_has_changed_and_keeps_its_recipe(stores, tmp_path):
    old, new = stores
    recipe = Recipe(heads=("lda",), standardize=True)
    head = fit_probe(old, "label", recipe=recipe).head
    fitted = refit_head(head, old, new, "label")
    assert fitted.after > fitted.before + 0.1
    assert fitted.change == pytest.approx(fitted.after - fitted.before)
    assert fitted.change_interval[0] > 0
    assert fitted.before_interval[0] < fitted.before < fitted.before_interval[1]
    assert (fitted.items + fitted.leaks, fitted.trained_old, fitted.trained_new) == (150, 400, 150)
    assert fitted.new_classes == ()
    assert (fitted.head.kind, fitted.head.mean is not None) == ("lda", True)
    assert "head" not in fitted.to_json()
    fitted.head.save(tmp_path / "again.head")
    again = Head.open(tmp_path / "again.head")
    assert again.fingerprint.digest == new.fingerprint.digest
    np.testing.assert_array_equal(again.predict(new), fitted.head.predict(new))


def test_a_setting_and_class_weights_that_were_given_are_kept(stores):
    old, new = stores
    head = fit_probe(old, "label", recipe=Recipe(C=0.01, balanced=True)).head
    again = refit_head(head, old, new, "label").head
    assert again.setting == 0.01
    assert again.report["balanced"] is True


def test_new_classes_and_labels_in_a_file(stores, make_store, tmp_path):
    old, _ = stores
    head = fit_probe(old, "label").head
    x, _ = draw(80, 3)
    new = make_store(x + 4)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = [(f"item {i}", old.metadata["label"][i].as_py() if i >= 60 else "maybe") for i in range(400)]
        csv.writer(file).writerows([("key", "label"), *rows])
    fitted = refit_head(head, old, new, tmp_path / "labels.csv")
    assert fitted.new_classes == ("maybe",)
    assert fitted.after > fitted.before


def test_near_duplicates_of_training_items_are_not_tested(stores, make_store):
    old, _ = stores
    head = fit_probe(old, "label").head
    x, y = draw(200, 5)
    x[:50] = np.asarray(old.embeddings[:50])
    fitted = refit_head(head, old, make_store(x, label=y), "label")
    assert fitted.leaks > 10
    assert fitted.items + fitted.leaks == 100


def test_what_cannot_be_trained_again_says_why(stores, make_store):
    old, new = stores
    head = fit_probe(old, "label").head
    x, y = draw(100, 6)
    with pytest.raises(FingerprintMismatch):
        refit_head(head, old, make_store(x, label=y, space="other"), "label")
    with pytest.raises(ColdpressError, match="labels 'topic' is neither a metadata column"):
        refit_head(head, old, new, "topic")
    with pytest.raises(ColdpressError, match="fewer than 3 items"):
        refit_head(head, old, make_store(x[:4], label=y[:4]), "label")
