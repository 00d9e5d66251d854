"""`fit_probe`: logistic regression on frozen features, judged on items that it was not trained on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError
from coldpress.probes import training
from coldpress.probes.calibrate import softmax
from coldpress.probes.curve import CurvePoint, learning_curve
from coldpress.probes.evaluate import Label, evaluate
from coldpress.probes.examine import examine
from coldpress.probes.head import Head
from coldpress.probes.labels import Labels, LabelSource, read_labels
from coldpress.probes.parts import Reading, Source, Tested, Tests, conditions, groups_of, head_of, make_parts, take_test
from coldpress.probes.result import ProbeResult, Recipe, warn
from coldpress.probes.splits import check_classes, fold_numbers, split
from coldpress.probes.training import train

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

Array = npt.NDArray[Any]


def fit_probe(
    stores: EmbeddingStore | Sequence[EmbeddingStore],
    labels: LabelSource = "label",
    *,
    recipe: Recipe | None = None,
    test_store: EmbeddingStore | None = None,
    test_labels: LabelSource | None = None,
    test_size: float = 0.2,
    by: str | None = None,
    curve: bool = False,
    drop_leaks: bool = False,
) -> ProbeResult:
    """Train a linear probe on the labelled rows of a store and test it on others.

    Parameters
    ----------
    stores : EmbeddingStore, or several
        Labelled rows are read block by block; up to 1 GiB of them stay in memory. Of several stores, which hold
        vectors of the same items by key, the one that does best in cross-validation is taken.
    labels : str, Path, mapping or sequence
        A metadata column, a file, or the labels themselves, of the first store: see :func:`read_labels`.
    recipe : Recipe, optional
        Which heads and outputs are compared and how.
    test_store : EmbeddingStore, optional
        Items to test on, of the same fingerprint. None: a part of `stores` is split off, drawn at random within each
        class.
    test_labels : as `labels`, optional
        For `test_store`; None: found there as in `stores`.
    test_size : float
        Share split off where `test_store` is None, between 0 and 1.
    by : str, optional
        Metadata column of the tested items: accuracy within each of its values, and the gap between them.
    curve : bool
        Train also on 1, 2, 4, ... labels a class, five draws of each, with the head, features and setting chosen.
    drop_leaks : bool
        Leave test items out of the test whose near duplicate is in the training part.

    Returns
    -------
    ProbeResult
        With the head, trained on the training part only.

    Raises
    ------
    FingerprintMismatch
        The training and test stores hold vectors of different spaces.
    ColdpressError
        Labels not found or unusable (see :func:`read_labels`), fewer than two classes, too few items in a class, a
        test class that the training part lacks, an item that one of the stores lacks, a vector that is not finite.

    Examples
    --------
    >>> result = fit_probe(store, "label")                          # doctest: +SKIP
    >>> result.evaluation.accuracy, result.evaluation.interval      # doctest: +SKIP
    (0.94, (0.838, 0.979))
    >>> result.head.save("ants-or-bees.head")                       # doctest: +SKIP
    """
    started, recipe = time.perf_counter(), recipe or Recipe()
    tests = Tests(test_store, test_labels, test_size)
    parts = make_parts(stores, labels, _READING, recipe, tests)
    classes, codes = np.unique(parts.train.values, return_inverse=True)
    trained = train(
        parts.features,
        codes,
        fold_numbers(codes, recipe.seed, parts.groups),
        columns=len(classes),
        kinds=recipe.heads or ("logistic",),
        C=recipe.C,
        balanced=recipe.balanced,
    )
    source = parts.sources[trained.features]
    head = head_of(source, trained, task="classify", classes=tuple(classes.tolist()))
    tested = take_test(parts, source, drop_leaks=drop_leaks, seed=recipe.seed)
    truth, logits = tested.labels.values, head.logits(tested.X)
    result = ProbeResult(
        head=head,
        evaluation=evaluate(
            truth, classes[logits.argmax(axis=1)], head.classes, majority=most_frequent(parts.train.values)
        ),
        examination=examine(
            truth,
            softmax(logits),
            head.classes,
            tested.keys,
            groups_of(parts, tested, by),
            uncalibrated=softmax(logits * head.temperature),
            seed=recipe.seed,
        ),
        curve=_curve(head, source, codes, tested, recipe) if curve else (),
        **conditions(parts, trained, tested, recipe, drop_leaks=drop_leaks),
        seconds=time.perf_counter() - started,
    )
    warn(result)
    return replace(result, head=replace(head, report=result.to_json()))


def _read(store: EmbeddingStore, labels: LabelSource) -> Labels:
    known = read_labels(store, labels)
    check_classes(known, least=2)
    return known


def _fit_test(known: Labels, test: Labels) -> Labels:
    """Labels of the test store, if all are of classes that are `known`."""
    if known.values.dtype.kind == "U":
        test = replace(test, values=test.values.astype(np.str_))
    unseen = sorted(set(test.values.tolist()) - set(known.values.tolist()), key=str)
    if unseen:
        raise ColdpressError(
            f"test items carry labels that no training item has: {', '.join(map(repr, unseen[:5]))}"
            f" ({len(unseen)} in all): add training items of them or drop them from the test"
        )
    return test


_READING = Reading(_read, _fit_test, split)


def _curve(head: Head, source: Source, codes: Array, tested: Tested, recipe: Recipe) -> tuple[CurvePoint, ...]:
    def learn(rows: Array) -> float:
        tensors = training.refit(
            head.kind,
            head.setting,
            source.features.take(rows),
            codes[rows],
            columns=len(head.classes),
            balanced=recipe.balanced,
        )
        return float(np.mean(replace(head, tensors=tensors).predict(tested.X) == tested.labels.values))

    return learning_curve(codes, learn, seed=recipe.seed)


def most_frequent(values: Array) -> Label:
    """The label that occurs most often."""
    classes, counts = np.unique(values, return_counts=True)
    return classes[counts.argmax()].item()  # type: ignore[no-any-return]
