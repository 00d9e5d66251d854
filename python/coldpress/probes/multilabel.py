"""`fit_multilabel`: several labels an item, one logistic regression each, in one solve over frozen features."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError
from coldpress.probes import heads, logistic
from coldpress.probes.calibrate import CALIBRATED_ROWS, temperature_of_answers
from coldpress.probes.candidates import best
from coldpress.probes.evaluate_sets import SetEvaluation, evaluate_sets
from coldpress.probes.examine import plain
from coldpress.probes.features import Features
from coldpress.probes.knn import drawn
from coldpress.probes.labels import Labels, LabelSource, read_label_sets
from coldpress.probes.parts import Reading, Tests, conditions, head_of, make_parts, take_test
from coldpress.probes.result import Conditions, Recipe, warn
from coldpress.probes.splits import FOLDS, check_share, deal_groups, deal_labels
from coldpress.probes.training import Trained

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

Array = npt.NDArray[Any]
FEWEST = 3
"""Items with a label, and without it: two to train on and one to test."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MultilabelResult(Conditions):
    """A trained head for several labels an item and how far to trust it; `evaluation` is on the test part."""

    evaluation: SetEvaluation

    def to_json(self) -> dict[str, Any]:
        """Everything but the weights, as plain JSON values."""
        return {**self.conditions_json(), "evaluation": plain(self.evaluation)}


def fit_multilabel(
    stores: EmbeddingStore | Sequence[EmbeddingStore],
    labels: LabelSource = "label",
    *,
    separator: str | None = None,
    recipe: Recipe | None = None,
    test_store: EmbeddingStore | None = None,
    test_labels: LabelSource | None = None,
    test_size: float = 0.2,
    drop_leaks: bool = False,
) -> MultilabelResult:
    """Train one logistic regression a label on rows that carry several, and test it on others.

    All labels share one C, chosen among 45 in cross-validation by F1 over all decisions, and one temperature. Splits
    and folds share out each label, the rarest first.

    Parameters
    ----------
    stores, recipe, test_store, test_labels, test_size, drop_leaks
        As of :func:`fit_probe`; the recipe's only head is ``logistic``, and classes are not balanced.
    labels
        As of :func:`fit_probe`, each a list, the JSON text of a list, or text with separators. An empty list says that
        an item has none of the labels; null and empty text, that nobody has looked.
    separator : str, optional
        Between the labels of a text, such as ``";"``.

    Raises
    ------
    FingerprintMismatch
        The training and test stores hold vectors of different spaces.
    ColdpressError
        Labels that are not found, fewer than two of them, one that too few items have or lack, a test label that the
        training part lacks, a vector that is not finite.

    Examples
    --------
    >>> result = fit_multilabel(store, "tags", separator=";")       # doctest: +SKIP
    >>> result.evaluation.mean_average_precision                    # doctest: +SKIP
    0.71
    """
    started, recipe = time.perf_counter(), recipe or Recipe()
    if tuple(recipe.heads) not in ((), ("logistic",)) or recipe.balanced:
        raise ColdpressError("several labels an item take the head logistic, not balanced: leave these options out")
    reading = Reading(partial(read_label_sets, separator=separator), _fit_test, _split)
    parts = make_parts(stores, labels, reading, recipe, Tests(test_store, test_labels, test_size))
    trained = _train(parts.features, parts.train.values, parts.groups, recipe)
    source, names = parts.sources[trained.features], parts.train.names
    head = head_of(source, trained, task="multilabel", classes=names)
    tested = take_test(parts, source, drop_leaks=drop_leaks, seed=recipe.seed)
    result = MultilabelResult(
        head=head,
        evaluation=evaluate_sets(tested.labels.values, head.logits(tested.X), names, seed=recipe.seed),
        **conditions(parts, trained, tested, recipe, drop_leaks=drop_leaks),
        seconds=time.perf_counter() - started,
    )
    warn(result)
    return replace(result, head=replace(head, report=result.to_json()))


def _check(labels: Labels) -> None:
    if len(labels.names) < 2:
        raise ColdpressError(f"the only label is {labels.names[0]!r}, expected two or more: give items without it too")
    counts = labels.values.sum(axis=0, dtype=np.int64)
    rare = np.minimum(counts, len(labels.rows) - counts) < FEWEST
    if rare.any():
        named = ", ".join(repr(labels.names[place]) for place in np.flatnonzero(rare)[:5])
        raise ColdpressError(
            f"{rare.sum()} of {len(rare)} labels ({named}) have fewer than {FEWEST} items with them, or without: label"
            " more or leave these labels out"
        )


def _split(labels: Labels, test_size: float, seed: int, groups: Array | None) -> tuple[Labels, Labels]:
    check_share(test_size)
    _check(labels)
    if groups is None:
        is_test = deal_labels(labels.values, np.array([1 - test_size, test_size]), seed) == 1
    else:
        is_test = deal_groups(groups, max(2, round(1 / test_size)), seed) == 0
    train, test = labels.take(~is_test), labels.take(is_test)
    lost = np.flatnonzero(train.values.max(axis=0, initial=0) == 0)
    if len(lost) or not len(test.rows):
        what = f"no training item has the label {labels.names[lost[0]]!r}" if len(lost) else "no item is left to test"
        raise ColdpressError(f"{what} after the split: take another seed or test_size")
    return train, test


def _fit_test(known: Labels, test: Labels) -> Labels:
    """Labels of the test store in the columns of the training ones."""
    _check(known)
    columns = {str(name): place for place, name in enumerate(known.names)}
    unseen = [name for name in test.names if str(name) not in columns]
    if unseen:
        raise ColdpressError(
            f"test items carry labels that no training item has: {', '.join(map(repr, unseen[:5]))}"
            f" ({len(unseen)} in all): add training items of them or drop them from the test"
        )
    values = np.zeros((len(test.rows), len(known.names)), dtype=np.uint8)
    values[:, [columns[str(name)] for name in test.names]] = test.values
    return replace(test, values=values, names=known.names)


def _train(sources: dict[str, Features], answers: Array, groups: Array | None, recipe: Recipe) -> Trained:
    """Compare all C on all features, fit the best with all rows and calibrate it on held-out ones."""
    L, seed = answers.shape[1], recipe.seed
    shares = np.full(FOLDS, 1 / FOLDS)
    folds = deal_labels(answers, shares, seed) if groups is None else deal_groups(groups, FOLDS, seed)
    grid, warm = (logistic.C_GRID, ()) if recipe.C is None else ((recipe.C,), logistic.on_the_way(recipe.C))
    searches = {
        name: logistic.search_C(features, answers, folds, columns=L, grid=grid, warm=warm)
        for name, features in sources.items()
    }
    candidates = [replace(one, features=name) for name, search in searches.items() for one in search.candidates]
    chosen = best(candidates)
    features, search = sources[chosen.features], searches[chosen.features]
    coef, intercept, converged = logistic.fit(features, answers, search.C, columns=L, start=search.start)
    rows = drawn(len(answers), CALIBRATED_ROWS)
    logits = search.held_out(features.take(rows), folds[rows])
    return Trained(
        kind="logistic",
        setting=search.C,
        tensors=heads.linear(coef, intercept),
        temperature=temperature_of_answers(logits, answers[rows]),
        features=chosen.features,
        candidates=tuple(candidates) if recipe.C is None or len(sources) > 1 else (),
        converged=converged,
    )
