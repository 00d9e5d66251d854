"""The probe: it equals scikit-learn's, its test part is one, and what is reported is true of the head that is kept."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from coldpress.errors import ColdpressError, FingerprintMismatch, StoreError
from coldpress.probes import Head, Recipe, fit_probe


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("standardize", [False, True])
def test_it_is_scikit_learns_logistic_regression(make_store, sample, classes, standardize):
    (X, y), (X_test, y_test) = sample(600, classes), sample(200, classes, seed=1)
    result = fit_probe(
        make_store(X, label=y),
        test_store=make_store(X_test, label=y_test),
        recipe=Recipe(C=0.5, standardize=standardize),
    )
    X, X_test = X.astype(np.float64), X_test.astype(np.float64)
    scaler = StandardScaler(with_mean=standardize, with_std=standardize).fit(X)
    reference = LogisticRegression(C=0.5, tol=1e-8, max_iter=10_000).fit(scaler.transform(X), y)
    np.testing.assert_allclose(result.head.coef, reference.coef_, rtol=1e-3, atol=1e-4)
    assert result.evaluation.accuracy == reference.score(scaler.transform(X_test), y_test)
    assert result.converged
    assert (result.head.setting, result.candidates) == (0.5, ())


def test_the_split_is_stratified_disjoint_seeded_and_kept_out_of_training(make_store, sample):
    X, y = sample(300, classes=3, spread=3.0)
    store = make_store(X, label=y)
    result = fit_probe(store, recipe=Recipe(C=1.0))
    assert (result.train_items, result.test_items) == (240, 60)
    assert [score.support for score in result.evaluation.per_class] == [20, 20, 20]
    assert fit_probe(store, recipe=Recipe(C=1.0)).evaluation == result.evaluation
    assert fit_probe(store, recipe=Recipe(C=1.0, seed=1)).evaluation != result.evaluation
    # labels without any signal: a test part that had leaked into training would look better than chance
    noise = np.random.default_rng(0).normal(size=(200, 150)).astype(np.float32)
    store = make_store(noise, label=np.arange(200) % 2)
    accuracies = [fit_probe(store, recipe=Recipe(C=1e4, seed=seed)).evaluation.accuracy for seed in range(8)]
    assert np.mean(accuracies) < 0.6


def test_the_reported_interval_is_about_the_head_that_is_returned(make_store, sample):
    (X, y), (X_test, y_test) = sample(150, spread=2.0), sample(120, spread=2.0, seed=1)
    result = fit_probe(make_store(X, label=y), test_store=make_store(X_test, label=y_test))
    assert np.mean(result.head.predict(X_test) == y_test) == result.evaluation.accuracy
    low, high = result.evaluation.interval
    assert low < result.evaluation.accuracy < high


def test_c_is_chosen_by_cross_validation_and_few_labels_ask_for_more_regularisation(make_store, sample):
    X, y = sample(60, classes=2, spread=3.0)
    result = fit_probe(make_store(X, label=y), test_size=0.5)
    assert max(result.candidates, key=lambda c: (c.score, -c.loss)).setting == result.head.setting
    np.testing.assert_allclose([c.setting for c in result.candidates], np.logspace(-6, 5, 45))
    assert result.head.setting < 1000
    assert all(0 <= c.score <= 1 for c in result.candidates)


def test_everything_but_the_weights_is_plain_json_and_in_the_head(make_store, sample):
    X, y = sample(90)
    result = fit_probe(make_store(X, label=y))
    assert json.loads(json.dumps(result.to_json()))["evaluation"]["accuracy"] == result.evaluation.accuracy
    assert result.head.report == result.to_json()


def test_text_labels_of_one_file_for_both_stores(make_store, sample, tmp_path):
    (X, y), (X_test, y_test) = sample(90), sample(30, seed=1)
    rows = [("train", i, label) for i, label in enumerate(y)] + [("test", i, label) for i, label in enumerate(y_test)]
    path = tmp_path / "labels.csv"
    path.write_text(
        "key,label\n" + "".join(f"{part} {i},class {label}\n" for part, i, label in rows) + "gone,class 0\n"
    )
    result = fit_probe(
        make_store(X, prefix="train"), path, test_store=make_store(X_test, prefix="test"), recipe=Recipe(C=1.0)
    )
    assert result.head.classes == ("class 0", "class 1", "class 2")
    assert (result.missing_labels, result.unknown_keys) == (0, 1)


def test_missing_labels_are_counted_and_said(make_store, sample, caplog):
    X, y = sample(90)
    labels = [None if row < 9 else int(label) for row, label in enumerate(y)]
    with caplog.at_level(logging.WARNING):
        result = fit_probe(make_store(X, label=labels), recipe=Recipe(C=1.0))
    assert result.missing_labels == 9
    assert result.train_items + result.test_items == 81
    assert "9 rows have no label" in caplog.text


def test_content_on_both_sides_is_counted_and_said(make_store, sample, caplog):
    (X, y), (X_test, y_test) = sample(90), sample(30, seed=1)
    train = make_store(X, label=y, hashes=[f"h{i}" for i in range(90)])
    test = make_store(X_test, label=y_test, hashes=[f"h{i + 85}" for i in range(30)])
    with caplog.at_level(logging.WARNING):
        assert fit_probe(train, test_store=test, recipe=Recipe(C=1.0)).shared_content == 5
    assert "5 of 30 test items have the same content" in caplog.text


def test_near_duplicates_are_said_and_left_out_on_request(make_store, sample, caplog):
    (X, y), (X_test, y_test) = sample(90), sample(30, seed=1)
    X_test[:4] = X[10:14]
    train, test = make_store(X, label=y), make_store(X_test, label=y_test, prefix="test")
    with caplog.at_level(logging.WARNING):
        found = fit_probe(train, test_store=test, recipe=Recipe(C=1.0))
    assert found.leaks_compared == 30
    planted = {(f"test {i}", f"item {10 + i}") for i in range(4)}
    assert planted <= {pair[:2] for pair in found.leaks}
    assert f"{len(found.leaks)} of 30 test items have a near duplicate" in caplog.text
    without = fit_probe(train, test_store=test, recipe=Recipe(C=1.0), drop_leaks=True)
    assert without.leaks == found.leaks
    assert without.test_items == 30 - len(found.leaks)


def test_a_search_for_near_duplicates_among_some_items_says_so(make_store, sample, caplog, monkeypatch):
    X, y = sample(90)
    monkeypatch.setattr("coldpress.probes.leaks.MOST_PRODUCTS", 6 * 72 * 12)
    with caplog.at_level(logging.WARNING):
        assert fit_probe(make_store(X, label=y), recipe=Recipe(C=1.0)).leaks_compared == 6
    assert "looked for among 6 of 18 test items, drawn at random: there are about 3.0 times as many" in caplog.text


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a"] * 9, {}, "all 9 labels are 'a', expected two classes"),
        (["a"] * 8 + ["b"], {}, r"1 of 2 classes have fewer than 2 items \('b'\)"),
        (["a"] * 7 + ["b"] * 2, {}, r"fewer than 3 items \('b'\)"),
        (["a", "b", "c"] * 3, {"test_size": 1.0}, r"test_size is 1\.0"),
        (["a", "b", "c"] * 3, {"test_labels": "label"}, "test_labels were given without test_store"),
    ],
)
def test_what_cannot_be_learned_is_refused(make_store, labels, options, message):
    store = make_store(np.random.default_rng(0).normal(size=(9, 3)), label=labels)
    with pytest.raises(ColdpressError, match=message):
        fit_probe(store, "label", **options)


def test_recipes_that_contradict_themselves_are_refused(make_store, sample):
    X, y = sample(30)
    store = make_store(X, label=y)
    with pytest.raises(ColdpressError, match="C is 0, expected a positive number"):
        Recipe(C=0)
    with pytest.raises(ColdpressError, match=r"no head 'forest': expected logistic, ridge, lda, centroid, knn"):
        fit_probe(store, recipe=Recipe(heads=["forest"]))
    with pytest.raises(ColdpressError, match="which logistic regression alone has"):
        fit_probe(store, recipe=Recipe(heads=["ridge"], C=1.0))
    with pytest.raises(ColdpressError, match="no output cls: expected pooled or all"):
        fit_probe(store, recipe=Recipe(outputs=["cls"]))
    with pytest.raises(ColdpressError, match=r"no metadata column 'patient' \(there are key"):
        fit_probe(store, recipe=Recipe(groups="patient"))


@pytest.mark.parametrize("kind", ["logistic", "ridge", "lda", "centroid", "knn"])
@pytest.mark.parametrize("classes", [2, 4])
def test_every_head_is_judged_saved_and_gives_calibrated_probabilities(make_store, sample, tmp_path, kind, classes):
    (X, y), (X_test, y_test) = sample(900, classes, spread=2.0), sample(900, classes, seed=1, spread=2.0)
    result = fit_probe(
        make_store(X, label=[f"class {i}" for i in y]),
        test_store=make_store(X_test, label=[f"class {i}" for i in y_test]),
        recipe=Recipe(heads=[kind], standardize=True),
    )
    assert {one.head for one in result.candidates} == {kind}
    result.head.save(tmp_path)
    head = Head.open(tmp_path)
    np.testing.assert_array_equal(head.predict(X_test), result.head.predict(X_test))
    assert np.mean(head.predict(X_test) == [f"class {i}" for i in y_test]) == result.evaluation.accuracy
    examined = result.examination
    assert examined.calibration_error <= max(examined.calibration_error_before, 0.05)
    probabilities = head.predict_proba(X_test)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(np.asarray(head.classes)[probabilities.argmax(axis=1)], head.predict(X_test))
    assert probabilities.max(axis=1).mean() == pytest.approx(result.evaluation.accuracy, abs=0.05)


def test_the_best_of_several_heads_and_stores_is_taken(make_store, sample):
    X, y = sample(400, classes=4, spread=1.5)
    noise = np.random.default_rng(0).normal(size=(400, 7)).astype(np.float32)
    order = np.random.default_rng(1).permutation(400)
    good = make_store(X, label=y)
    poor = make_store(noise, space="poor")
    result = fit_probe([poor, good], {f"item {i}": int(label) for i, label in enumerate(y)})
    assert result.head.fingerprint == good.fingerprint
    assert result.evaluation == fit_probe(good, y).evaluation
    best = max(result.candidates, key=lambda one: one.score)
    assert (best.features, best.head, best.setting) == (result.features, result.head.kind, result.head.setting)
    assert len({one.features for one in result.candidates}) == 2
    with pytest.raises(StoreError, match="no row with key"):
        fit_probe([good, make_store(X[order], space="other", prefix="photo")], y)
    compared = fit_probe(good, y, recipe=Recipe(heads=["centroid", "lda", "ridge", "logistic", "knn"]))
    assert {one.head for one in compared.candidates} == {"centroid", "lda", "ridge", "logistic", "knn"}


def test_groups_are_never_on_both_sides(make_store):
    rng = np.random.default_rng(0)
    patients = np.arange(300) % 60
    X = rng.normal(size=(60, 80))[patients] + 0.1 * rng.normal(size=(300, 80))
    y = rng.integers(0, 2, 60)[patients]  # nothing but the patient says which
    store = make_store(X.astype(np.float32), label=y, patient=patients)
    assert fit_probe(store).evaluation.accuracy > 0.9
    apart = fit_probe(store, recipe=Recipe(groups="patient"))
    assert apart.evaluation.accuracy < 0.8
    assert max(one.score for one in apart.candidates) < 0.8
    assert apart.test_items == 60


def test_balanced_classes_find_the_rare_one(make_store, sample):
    X, y = sample(1200, classes=2, spread=3.0)
    keep = (y == 0) | (np.arange(1200) % 20 == 1)
    store = make_store(X[keep], label=y[keep])
    for kind in ("logistic", "ridge", "lda"):
        plain, weighted = (
            fit_probe(store, recipe=Recipe(heads=[kind], balanced=balanced)) for balanced in (False, True)
        )
        rare = [result.evaluation.per_class[1].recall for result in (plain, weighted)]
        assert rare[1] > rare[0]


def test_test_stores_that_do_not_match_are_refused(make_store, sample):
    X, y = sample(30)
    store = make_store(X, label=y)
    with pytest.raises(FingerprintMismatch, match="weights: abc != other"):
        fit_probe(store, test_store=make_store(X, label=y, space="other"))
    with pytest.raises(ColdpressError, match=r"labels that no training item has: 3, 4 \(2 in all\)"):
        fit_probe(store, test_store=make_store(X, label=y + 2))
    with pytest.raises(ColdpressError, match="pass test_labels"):
        fit_probe(store, y, test_store=store)


def test_a_damaged_vector_is_named(make_store, sample):
    X, y = sample(30)
    store = make_store(X, label=y)
    np.load(store.path / "embeddings" / "part-00000.npy", mmap_mode="r+")[4, 2] = np.nan
    with pytest.raises(ColdpressError, match=r"stored vector 'item 4' \(row 4\) holds NaN or Inf"):
        fit_probe(store)


def test_importing_the_probes_does_not_import_scikit_learn():
    code = "import coldpress.probes, coldpress.index, sys; sys.exit('sklearn' in sys.modules or 'faiss' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
