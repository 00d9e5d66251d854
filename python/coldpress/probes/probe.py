"""`fit_probe`: logistic regression on frozen features, judged on items that it was not trained on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.probes import heads
from coldpress.probes.evaluate import Label, evaluate
from coldpress.probes.examine import CurvePoint, examine, learning_curve
from coldpress.probes.features import Features
from coldpress.probes.head import Head
from coldpress.probes.heads import Trained, train
from coldpress.probes.labels import Labels, LabelSource, read_groups, read_labels
from coldpress.probes.leaks import Leaks, near_duplicates
from coldpress.probes.result import ProbeResult, Recipe, warn
from coldpress.probes.splits import check_classes, fold_numbers, split

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
    compared = list(stores) if isinstance(stores, Sequence) else [stores]
    if test_store is not None and len(compared) > 1:
        raise ColdpressError("test_store is of one space, and several stores were given: use test_size, or one store")
    store = compared[0]
    known = read_labels(store, labels)
    check_classes(known, least=2)
    groups = None if recipe.groups is None else read_groups(store, recipe.groups, known.rows)
    if test_store is None:
        if test_labels is not None:
            raise ColdpressError("test_labels were given without test_store: pass both, or use test_size")
        train_part, test = split(known, test_size, recipe.seed, groups)
    else:
        if test_labels is None and not isinstance(labels, (str, Path, Mapping)):
            raise ColdpressError("labels were given row by row, and test_store has other rows: pass test_labels")
        train_part, test = known, _read_test(store, known, test_store, labels if test_labels is None else test_labels)
    if groups is not None:
        groups = groups[np.isin(known.rows, train_part.rows)]
    head, source, trained = _train(_sources(compared, recipe.outputs, train_part), train_part, recipe, groups)
    tested, rows = test_store or source.store, test.rows
    if test_store is None and source.store is not store:
        rows = np.asarray([tested.row(str(store.keys[row])) for row in rows], dtype=np.int64)
    features = Features.of(tested, rows, source.output)
    leaks = near_duplicates(Features.of(source.store, source.rows, source.output), features, seed=recipe.seed)
    pairs = _pairs(leaks, source, tested, rows)
    if drop_leaks and len(leaks.test):
        kept = ~np.isin(np.arange(len(rows)), leaks.test)
        if not kept.any():
            raise ColdpressError("every test item has a near duplicate in the training part: test on other items")
        rows, test, features = rows[kept], test.take(kept), features.take(kept)
    X = features.array(np.float32)
    predictions = head.predict(X)
    result = ProbeResult(
        head=head,
        evaluation=evaluate(test.values, predictions, head.classes, majority=most_frequent(train_part.values)),
        examination=examine(
            test.values,
            head.predict_proba(X),
            head.classes,
            [str(tested.keys[row]) for row in rows],
            None if by is None else read_groups(test_store or store, by, test.rows),
            seed=recipe.seed,
        ),
        leaks=pairs,
        leaks_dropped=drop_leaks,
        curve=_curve(head, source, train_part, X, test.values, recipe) if curve else (),
        candidates=trained.candidates,
        features=trained.features,
        train_items=len(train_part.rows),
        test_items=len(test.rows),
        missing_labels=train_part.missing + (0 if test_store is None else test.missing),
        unknown_keys=_unknown_keys(train_part, test, split=test_store is None, one_source=test_labels is None),
        shared_content=_shared_content(store, train_part, test_store or store, test),
        converged=trained.converged,
        seed=recipe.seed,
        seconds=time.perf_counter() - started,
    )
    warn(result)
    return replace(result, head=replace(head, report=result.to_json()))


def _read_test(store: EmbeddingStore, known: Labels, test_store: EmbeddingStore, labels: LabelSource) -> Labels:
    """Labels of the test store, which has to hold the same space and only classes that are `known`."""
    if test_store.fingerprint.digest != store.fingerprint.digest:
        differences = "; ".join(store.fingerprint.diff(test_store.fingerprint))
        raise FingerprintMismatch(
            f"the training and test stores hold different spaces (training != test: {differences}): embed both with"
            " the same model and settings"
        )
    test = read_labels(test_store, labels)
    if known.values.dtype.kind == "U":
        test = Labels(test.rows, test.values.astype(np.str_), test.missing, test.unknown)
    unseen = sorted(set(test.values.tolist()) - set(known.values.tolist()), key=str)
    if unseen:
        raise ColdpressError(
            f"test items carry labels that no training item has: {', '.join(map(repr, unseen[:5]))}"
            f" ({len(unseen)} in all): add training items of them or drop them from the test"
        )
    return test


@dataclass(frozen=True)
class _Source:
    """Vectors to learn from: an output of a store, None for its first, and the row of each labelled item in it."""

    store: EmbeddingStore
    output: str | None
    rows: npt.NDArray[np.int64]


def _sources(stores: Sequence[EmbeddingStore], outputs: Sequence[str], train: Labels) -> dict[str, _Source]:
    """What is compared, by name; the items of the first store are looked up by their keys in the others."""
    found: dict[str, _Source] = {}
    keys = [str(stores[0].keys[row]) for row in train.rows] if len(stores) > 1 else []
    for store in stores:
        rows = train.rows if store is stores[0] else np.asarray([store.row(key) for key in keys], dtype=np.int64)
        pooled = [name for name in store.outputs if name not in store.ragged]
        wanted: list[str | None] = [None] if not outputs else [n for n in pooled if n in outputs or "all" in outputs]
        if not wanted:
            raise ColdpressError(
                f"{store.path} has no output {', '.join(outputs)}: expected {', '.join(pooled)} or all"
            )
        for output in wanted:
            name = " ".join(filter(None, (store.model if len(stores) > 1 else "", output)))
            name = name if name not in found else f"{name} {store.path}"
            found[name] = _Source(store, output, rows)
    return found


def _train(
    sources: Mapping[str, _Source], part: Labels, recipe: Recipe, groups: Array | None
) -> tuple[Head, _Source, Trained]:
    """The head, what it was trained on, and how it was chosen."""
    classes, y = np.unique(part.values, return_inverse=True)
    moments, features = {}, {}
    for name, source in sources.items():
        plain = Features.of(source.store, source.rows, source.output)
        moments[name] = plain.moments() if recipe.standardize else (None, None)
        features[name] = replace(plain, shift=moments[name][0], scale=moments[name][1])
    trained = train(
        features,
        y,
        fold_numbers(y, recipe.seed, groups),
        columns=len(classes),
        kinds=recipe.heads,
        C=recipe.C,
        balanced=recipe.balanced,
    )
    source = sources[trained.features]
    head = Head(
        coef=trained.coef,
        intercept=trained.intercept,
        classes=tuple(classes.tolist()),
        kind=trained.kind,
        setting=trained.setting,
        temperature=trained.temperature,
        output=source.output,
        fingerprint=source.store.fingerprint,
        model=source.store.model,
        description=source.store.description,
        mean=moments[trained.features][0],
        scale=moments[trained.features][1],
        projection=source.store.projection,
    )
    return head, source, trained


def _curve(head: Head, source: _Source, part: Labels, X: Array, truth: Array, recipe: Recipe) -> tuple[CurvePoint, ...]:
    features = replace(Features.of(source.store, source.rows, source.output), shift=head.mean, scale=head.scale)
    codes = np.unique(part.values, return_inverse=True)[1]

    def learn(rows: Array) -> float:
        fitted = heads.refit(
            head.kind,
            head.setting,
            features.take(rows),
            codes[rows],
            columns=len(head.classes),
            balanced=recipe.balanced,
        )
        return float(np.mean(replace(head, coef=fitted[0], intercept=fitted[1]).predict(X) == truth))

    return learning_curve(codes, learn, seed=recipe.seed)


def _pairs(
    leaks: Leaks, source: _Source, tested: EmbeddingStore, rows: npt.NDArray[np.int64]
) -> tuple[tuple[str, str, float], ...]:
    found = zip(rows[leaks.test], source.rows[leaks.train], leaks.cosine, strict=True)
    return tuple((str(tested.keys[a]), str(source.store.keys[b]), round(float(c), 4)) for a, b, c in found)


def _unknown_keys(train: Labels, test: Labels, *, split: bool, one_source: bool) -> int:
    """Labels whose key is in neither store; where `one_source` labels both, each store knows the other's keys not."""
    if split:
        return train.unknown
    return max(0, train.unknown - len(test.rows)) if one_source else train.unknown + test.unknown


def most_frequent(values: Array) -> Label:
    """The label that occurs most often."""
    classes, counts = np.unique(values, return_counts=True)
    return classes[counts.argmax()].item()  # type: ignore[no-any-return]


def _shared_content(store: EmbeddingStore, train: Labels, tested: EmbeddingStore, test: Labels) -> int:
    """How many test items have the content of a training item; 0 where a store keeps no hashes."""
    name = "content_hash"
    if name not in store.metadata.column_names or name not in tested.metadata.column_names:
        return 0
    trained = set(store.metadata.column(name).take(train.rows).to_pylist()) - {None, ""}
    return sum(value in trained for value in tested.metadata.column(name).take(test.rows).to_pylist())
