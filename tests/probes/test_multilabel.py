"""Several labels an item: scikit-learn's regressions and measures, fair splits, calibrated probabilities."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from coldpress.errors import ColdpressError
from coldpress.probes import Head, Recipe, fit_multilabel
from coldpress.probes.evaluate_sets import evaluate_sets
from coldpress.probes.label_values import as_sets
from coldpress.probes.splits import deal_labels

NAMES = ("bee", "flower", "sky")


def draw(rows, seed=0):
    """Vectors (N, 12) and answers (N, 3): each label has a direction of its own, the last is rare."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 12)).astype(np.float32)
    directions = np.random.default_rng(99).normal(size=(12, 3))
    return X, (X @ directions + 2 * rng.normal(size=(rows, 3)) > [0, 1, 6]).astype(np.uint8)


def as_lists(answers):
    return [[name for name, one in zip(NAMES, row, strict=True) if one] for row in answers]


def test_each_label_is_a_logistic_regression_of_scikit_learn(make_store, tmp_path):
    (X, Y), (X_test, Y_test) = draw(600), draw(400, seed=1)
    result = fit_multilabel(
        make_store(X),
        dict(zip([f"item {i}" for i in range(600)], as_lists(Y), strict=True)),
        test_store=make_store(X_test),
        recipe=Recipe(C=0.5),
    )
    result.head.save(tmp_path)
    head = Head.open(tmp_path)
    assert (head.classes, head.task) == (NAMES, "multilabel")
    for label in range(3):
        theirs = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit(X.astype(np.float64), Y[:, label])
        np.testing.assert_allclose(head.coef[label], theirs.coef_[0], rtol=1e-3, atol=1e-4)
    predicted = head.predict(X_test)
    np.testing.assert_array_equal(predicted, head.predict_proba(X_test) > 0.5)
    np.testing.assert_array_equal(predicted, head.estimator.predict(X_test))
    found = fit_multilabel(
        make_store(X), as_lists(Y), test_store=make_store(X_test), test_labels=as_lists(Y_test), recipe=Recipe(C=0.5)
    ).evaluation
    assert found.micro_f1 == pytest.approx(metrics.f1_score(Y_test, predicted, average="micro"))
    assert found.exact == pytest.approx(metrics.accuracy_score(Y_test, predicted))


def test_measures_are_scikit_learns_also_with_ties():
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 2, (200, 4))
    answers[:, 3] = 0
    logits = np.round(answers + rng.normal(size=(200, 4)), 1)
    found = evaluate_sets(answers, logits, ["a", "b", "c", "never"])
    expected = [metrics.average_precision_score(answers[:, label], logits[:, label]) for label in range(3)]
    assert [one.average_precision for one in found.per_label] == pytest.approx([*expected, None])
    assert found.mean_average_precision == pytest.approx(np.mean(expected))
    assert found.macro_f1 == pytest.approx(
        metrics.f1_score(answers[:, :3], logits[:, :3] > 0, average="macro", zero_division=0)
    )
    assert found.map_interval[0] < found.mean_average_precision < found.map_interval[1]
    assert found.chance == pytest.approx(answers[:, :3].mean())


def test_intervals_cover_the_truth_as_often_as_they_say():
    X, answers = draw(30_000)
    logits = X @ np.random.default_rng(99).normal(size=(12, 3)) - [0, 1, 6]
    precision = metrics.average_precision_score(answers, logits, average="macro")
    f1 = metrics.f1_score(answers, logits > 0, average="micro")
    inside = np.zeros(2)
    for start in range(0, 60 * 500, 500):
        found = evaluate_sets(answers[start : start + 500], logits[start : start + 500], NAMES)
        inside += [
            found.map_interval[0] <= precision <= found.map_interval[1],
            found.micro_f1_interval[0] <= f1 <= found.micro_f1_interval[1],
        ]
    assert (inside >= 51).all()


def test_splits_share_out_rare_labels():
    answers = draw(1000)[1]
    answers[:, 2] = np.arange(1000) % 100 == 0  # ten items
    for seed in range(5):
        parts = deal_labels(answers, np.full(5, 0.2), seed)
        assert [answers[parts == part, 2].sum() for part in range(5)] == [2] * 5
        assert np.abs(np.bincount(parts) - 200).max() <= 5
    assert (deal_labels(answers, np.full(5, 0.2), 0) == deal_labels(answers, np.full(5, 0.2), 0)).all()


def test_texts_with_separators_json_and_empty_lists(make_store, tmp_path):
    X, Y = draw(300)
    lists = as_lists(Y)
    texts = [";".join(names) for names in lists]
    store = make_store(X, tags=texts, as_json=[json.dumps(names) for names in lists])
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps({"key": f"item {i}", "label": names}) + "\n" for i, names in enumerate(lists)))
    labelled = sum(map(bool, texts))
    assert labelled < 300
    found = fit_multilabel(store, "tags", separator=";", recipe=Recipe(C=1.0))
    assert (found.missing_labels, found.train_items + found.test_items) == (300 - labelled, labelled)
    whole = [fit_multilabel(store, labels, recipe=Recipe(C=1.0)) for labels in ("as_json", path)]
    assert [one.train_items + one.test_items for one in whole] == [300, 300]
    assert whole[0].evaluation == whole[1].evaluation
    assert whole[0].head.classes == NAMES


def test_whole_numbers_are_labels_however_they_are_written():
    sets = [[1.0, 2.0], [2.0], [], [10.0]]
    for written in (sets, [json.dumps(one) for one in sets], [[str(int(x)) for x in one] for one in sets]):
        values, names = as_sets(written, "the labels")
        assert names == (1, 2, 10)
        assert values.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_probabilities_are_met_as_often_as_they_say(make_store):
    (X, Y), (X_test, Y_test) = draw(400), draw(4000, seed=2)
    head = fit_multilabel(make_store(X), as_lists(Y)).head
    probabilities = head.predict_proba(X_test)
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (probabilities >= low) & (probabilities < low + 0.25)
        assert probabilities[inside].mean() == pytest.approx(Y_test[inside].mean(), abs=0.06)


def test_groups_are_never_on_both_sides(make_store):
    rng = np.random.default_rng(0)
    patients = np.arange(300) % 60
    X = (rng.normal(size=(60, 80))[patients] + 0.1 * rng.normal(size=(300, 80))).astype(np.float32)
    lists = as_lists(rng.integers(0, 2, (60, 3))[patients])  # nothing but the patient says which
    store = make_store(X, patient=patients)
    assert fit_multilabel(store, lists).evaluation.mean_average_precision > 0.9
    apart = fit_multilabel(store, lists, recipe=Recipe(groups="patient"))
    assert apart.evaluation.mean_average_precision < 0.8


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([["a"]] * 20, {}, "the only label is 'a'"),
        ([[]] * 20, {}, "lists without any label"),
        ([["a", "b"]] * 10 + [["b"]] * 8 + [["c"]] * 2, {}, r"2 of 3 labels \('b', 'c'\) have fewer than 3 items"),
        ([["a"], ["b"]] * 10, {"recipe": Recipe(heads=["ridge"])}, "take the head logistic"),
        ([["a"], ["b"]] * 10, {"test_size": 1.5}, r"test_size is 1\.5"),
    ],
)
def test_what_cannot_be_learned_is_refused(make_store, labels, options, message):
    store = make_store(np.random.default_rng(0).normal(size=(20, 3)))
    with pytest.raises(ColdpressError, match=message):
        fit_multilabel(store, labels, **options)


def test_test_labels_that_nobody_has_learned_are_refused(make_store):
    X, Y = draw(200)
    store = make_store(X)
    with pytest.raises(ColdpressError, match=r"no training item has: 'wasp' \(1 in all\)"):
        fit_multilabel(store, as_lists(Y), test_store=store, test_labels=[["bee", "wasp"]] * 200)
