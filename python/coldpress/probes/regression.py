"""`fit_regression`: ridge regression of numbers on frozen features, judged on items that it was not trained on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError
from coldpress.probes import heads
from coldpress.probes.candidates import best
from coldpress.probes.evaluate_numbers import NumberEvaluation, evaluate_numbers
from coldpress.probes.examine import plain
from coldpress.probes.features import Features
from coldpress.probes.labels import Labels, LabelSource, read_numbers
from coldpress.probes.parts import Reading, Tests, conditions, head_of, make_parts, take_test
from coldpress.probes.result import Conditions, Recipe, warn
from coldpress.probes.ridge import Ridge
from coldpress.probes.splits import FOLDS, check_share, deal_groups, fold_numbers, split, strata
from coldpress.probes.training import Trained

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

Array = npt.NDArray[Any]
FEWEST = 10
"""Labelled items."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RegressionResult(Conditions):
    """A trained regression and how far to trust it; `evaluation` is on the test part."""

    evaluation: NumberEvaluation

    def to_json(self) -> dict[str, Any]:
        """Everything but the weights, as plain JSON values."""
        return {**self.conditions_json(), "evaluation": plain(self.evaluation)}


def fit_regression(
    stores: EmbeddingStore | Sequence[EmbeddingStore],
    labels: LabelSource = "label",
    *,
    recipe: Recipe | None = None,
    test_store: EmbeddingStore | None = None,
    test_labels: LabelSource | None = None,
    test_size: float = 0.2,
    drop_leaks: bool = False,
) -> RegressionResult:
    """Train a ridge regression on rows labelled with numbers and test it on others.

    The strength of regularisation is chosen among 17 in cross-validation, by R^2. A test part that is split off has
    some items of every tenth of the numbers.

    Parameters
    ----------
    stores, labels, recipe, test_store, test_labels, test_size, drop_leaks
        As of :func:`fit_probe`; the recipe's only head is ``ridge``, and it has neither C nor balanced classes.

    Raises
    ------
    FingerprintMismatch
        The training and test stores hold vectors of different spaces.
    ColdpressError
        Labels that are not found or not finite numbers, fewer than ten of them, all equal ones in the test part, a
        vector that is not finite.

    Examples
    --------
    >>> result = fit_regression(store, "price")                     # doctest: +SKIP
    >>> result.evaluation.mae, result.evaluation.baseline_mae       # doctest: +SKIP
    (11.2, 30.8)
    """
    started, recipe = time.perf_counter(), recipe or Recipe()
    if tuple(recipe.heads) not in ((), ("ridge",)) or recipe.C is not None or recipe.balanced:
        raise ColdpressError("numbers are predicted by the head ridge, without C or balanced classes: leave them out")
    reading = Reading(read_numbers, lambda _, test: test, _split)
    parts = make_parts(stores, labels, reading, recipe, Tests(test_store, test_labels, test_size))
    targets = parts.train.values
    folds = _folds(targets, recipe.seed, parts.groups)
    trained = _train(parts.features, targets, folds)
    source = parts.sources[trained.features]
    head = head_of(source, trained, task="regress", classes=())
    tested = take_test(parts, source, drop_leaks=drop_leaks, seed=recipe.seed)
    truth, predicted = tested.labels.values, head.predict(tested.X)
    try:
        evaluation = evaluate_numbers(truth, predicted, tested.keys, mean=targets.mean(), seed=recipe.seed)
    except ValueError as error:
        raise ColdpressError(f"{error}: test on more items or on others") from error
    result = RegressionResult(
        head=head,
        evaluation=evaluation,
        **conditions(parts, trained, tested, recipe, drop_leaks=drop_leaks),
        seconds=time.perf_counter() - started,
    )
    warn(result)
    return replace(result, head=replace(head, report=result.to_json()))


def _split(labels: Labels, test_size: float, seed: int, groups: Array | None) -> tuple[Labels, Labels]:
    check_share(test_size)
    if len(labels.rows) < FEWEST:
        raise ColdpressError(f"{len(labels.rows)} items are labelled, expected {FEWEST} or more: label more of them")
    if groups is None:
        train, _ = split(replace(labels, values=strata(labels.values)), test_size, seed)
        is_test = ~np.isin(labels.rows, train.rows)
    else:
        is_test = deal_groups(groups, max(2, round(1 / test_size)), seed) == 0
    return labels.take(~is_test), labels.take(is_test)


def _folds(targets: Array, seed: int, groups: Array | None) -> npt.NDArray[np.int64]:
    return fold_numbers(strata(targets), seed) if groups is None else deal_groups(groups, FOLDS, seed)


def _train(sources: dict[str, Features], targets: Array, folds: Array) -> Trained:
    """Compare all alphas on all features, and fit the best with all rows."""
    forms = {name: Ridge.of(features, targets, folds) for name, features in sources.items()}
    candidates = [replace(c, features=name) for name, form in forms.items() for c in form.search(form.alphas)]
    chosen = best(candidates)
    tensors = heads.linear(*forms[chosen.features].fit(float(chosen.setting or 0)))
    return Trained("ridge", chosen.setting, tensors, 1.0, chosen.features, tuple(candidates), converged=True)
