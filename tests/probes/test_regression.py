"""Numbers: the weights and the choice of alpha are scikit-learn's, the measures too, and the intervals hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import PredefinedSplit

from coldpress.errors import ColdpressError
from coldpress.probes import Head, Recipe, fit_regression, ridge
from coldpress.probes.evaluate_numbers import evaluate_numbers
from coldpress.probes.features import Features


def draw(rows, noise=1.0, seed=0):
    """Vectors (N, 12) off the origin, and numbers about 50 that depend on them."""
    rng = np.random.default_rng(seed)
    X = (3 + rng.normal(size=(rows, 12)) * np.arange(1, 13) ** -0.5).astype(np.float32)
    weights = np.random.default_rng(99).normal(size=12)
    return X, 50 + (X - 3) @ weights + noise * rng.normal(size=rows)


def test_alpha_and_weights_are_those_of_ridge_cv():
    X, y = draw(400, noise=3.0)
    folds = np.arange(400) % 5
    forms = ridge.Ridge.of(Features(X, np.arange(400), str), y, folds)
    found = forms.search(forms.alphas)
    theirs = RidgeCV(alphas=forms.alphas, cv=PredefinedSplit(folds), scoring="r2").fit(X.astype(np.float64), y)
    best = max(found, key=lambda one: one.score)
    assert best.setting == theirs.alpha_
    assert best.score == pytest.approx(theirs.best_score_, abs=1e-9)
    for alpha in forms.alphas[::4]:
        coef, intercept = forms.fit(alpha)
        theirs = Ridge(alpha=alpha).fit(X.astype(np.float64), y)
        np.testing.assert_allclose(coef[0], theirs.coef_, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(intercept[0], theirs.intercept_, rtol=1e-6)


@pytest.mark.parametrize("standardize", [False, True])
def test_a_regression_is_judged_saved_and_opened(make_store, tmp_path, standardize):
    (X, y), (X_test, y_test) = draw(300), draw(200, seed=1)
    result = fit_regression(
        make_store(X, price=y),
        "price",
        test_store=make_store(X_test, price=y_test),
        recipe=Recipe(standardize=standardize),
    )
    result.head.save(tmp_path)
    head = Head.open(tmp_path)
    predicted = head.predict(X_test)
    assert predicted.shape == (200,)
    found = result.evaluation
    assert found.r2 == pytest.approx(metrics.r2_score(y_test, predicted))
    assert found.rmse == pytest.approx(metrics.root_mean_squared_error(y_test, predicted))
    assert found.mae == pytest.approx(metrics.mean_absolute_error(y_test, predicted))
    assert found.spearman == pytest.approx(spearmanr(y_test, predicted).statistic)
    assert found.r2_interval[0] < found.r2 < found.r2_interval[1]
    assert found.baseline_rmse == pytest.approx(np.sqrt(np.mean((y_test - y.mean()) ** 2)))
    assert found.baseline_mae > 1.5 * found.mae
    assert [abs(one.label - one.prediction) for one in found.errors[:2]] == pytest.approx(
        sorted(np.abs(y_test - predicted))[:-3:-1]
    )
    np.testing.assert_allclose(head.estimator.predict(X_test), predicted, rtol=1e-5)
    assert (head.task, head.title[:16]) == ("regress", "ridge regression")
    assert json.loads(json.dumps(result.to_json())) == head.report
    with pytest.raises(ColdpressError, match="numbers, which have no probabilities"):
        head.predict_proba(X_test)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=100_000)
    predicted = truth + rng.normal(size=100_000)
    errors = truth - predicted
    truths = (
        1 - errors.var() / truth.var(),
        np.abs(errors).mean(),
        errors.std(),
        spearmanr(truth, predicted).statistic,
    )
    inside = np.zeros(4)
    for start in range(0, 100 * 200, 200):
        part = slice(start, start + 200)
        found = evaluate_numbers(truth[part], predicted[part], [""] * 200, mean=0.0)
        intervals = (found.r2_interval, found.mae_interval, found.rmse_interval, found.spearman_interval)
        inside += [low <= value <= high for (low, high), value in zip(intervals, truths, strict=True)]
    assert (inside >= 87).all()


def test_a_split_has_small_and_large_numbers_and_keeps_groups_whole(make_store):
    X, y = draw(200)
    y = np.exp(y / 10)
    store = make_store(X, price=y, house=np.arange(200) // 4)
    result = fit_regression(store, "price", recipe=Recipe(seed=3))
    assert (result.train_items, result.test_items) == (160, 40)
    assert result.evaluation.spearman > 0.5
    apart = fit_regression(store, "price", recipe=Recipe(groups="house"))
    assert apart.test_items == 40
    # numbers that only the house knows: a fold or test that shares houses would look good
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(50, 12))[np.arange(200) // 4] + 0.01 * rng.normal(size=(200, 12))).astype(np.float32)
    store = make_store(X, price=rng.normal(size=50)[np.arange(200) // 4], house=np.arange(200) // 4)
    assert max(one.score for one in fit_regression(store, "price", recipe=Recipe(groups="house")).candidates) < 0.2


def test_equal_numbers_explain_nothing_and_decide_nothing(make_store):
    """Of a fold they are all of, of a sample of the test part: R^2 is minus infinity there."""
    X, y = draw(60, noise=0.1)
    groups = np.r_[0, 1 + np.arange(59) % 4]  # one of a single item
    folds = np.r_[0, 1 + np.arange(59) % 4]
    found = ridge.Ridge.of(Features(X, np.arange(60), str), y, folds).search((1e-3, 10.0, 1e4))
    assert all(-1 < one.score < 1 for one in found)
    assert max(found, key=lambda one: one.score).setting == 1e-3
    store = make_store(X, price=y, house=groups)
    few = fit_regression(store, "price", test_store=make_store(X[:3], price=y[:3])).evaluation
    assert np.isfinite([*few.r2_interval, *few.mae_interval, *few.rmse_interval]).all()


def test_of_equal_vectors_the_mean_is_predicted(make_store):
    head = fit_regression(make_store(np.ones((60, 4))), np.arange(60)).head
    assert head.coef.tolist() == [[0.0] * 4]
    assert 20 < head.intercept[0] < 40


def test_without_a_signal_it_says_so(make_store):
    rng = np.random.default_rng(1)
    store = make_store(rng.normal(size=(300, 12)).astype(np.float32), label=rng.normal(size=300))
    found = fit_regression(store).evaluation
    assert found.r2 < 0.1
    assert found.r2_interval[0] < 0.05
    assert found.rmse == pytest.approx(found.baseline_rmse, rel=0.1)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a", *range(19)], {}, "holds the label 'a', expected finite numbers"),
        ([float("inf"), *range(19)], {}, "expected finite numbers"),
        ([1.5] * 20, {}, r"all 4 test items are labelled 1\.5"),
        ([1.5] * 5 + [None] * 15, {}, "5 items are labelled, expected 10 or more"),
        (range(20), {"recipe": Recipe(heads=["lda"])}, "predicted by the head ridge"),
        (range(20), {"recipe": Recipe(C=1.0)}, "predicted by the head ridge"),
        (range(20), {"recipe": Recipe(groups="key"), "test_size": 0}, "test_size is 0, expected a share between"),
    ],
)
def test_what_cannot_be_learned_is_refused(make_store, labels, options, message):
    store = make_store(np.random.default_rng(0).normal(size=(20, 3)))
    with pytest.raises(ColdpressError, match=message):
        fit_regression(store, list(labels), **options)
