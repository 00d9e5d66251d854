"""`fit_probe`: logistic regression on frozen features, judged on items that it was not trained on."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.probes import logistic
from coldpress.probes.candidates import Candidate
from coldpress.probes.evaluate import Evaluation, Label, evaluate
from coldpress.probes.features import Features
from coldpress.probes.head import Head
from coldpress.probes.labels import Labels, LabelSource, read_labels

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
FOLDS = 5


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A trained head and how far to trust it.

    Attributes
    ----------
    head : Head
        Trained on the training part alone, so that `evaluation` is about exactly this head.
    evaluation : Evaluation
        On the test part.
    C : float
        The value used, given or chosen.
    candidates : tuple of Candidate
        The values compared, rising; empty where C was given.
    train_items, test_items : int
    missing_labels : int
        Rows without a label, skipped, in both stores.
    unknown_keys : int
        Labels for keys that no store holds.
    shared_content : int
        Test items whose content occurs in the training part too, by ``content_hash``: they make the result look
        better than it is.
    converged : bool
        Whether the solver reached its tolerance.
    seed : int
    seconds : float
    """

    head: Head
    evaluation: Evaluation
    C: float
    candidates: tuple[Candidate, ...]
    train_items: int
    test_items: int
    missing_labels: int
    unknown_keys: int
    shared_content: int
    converged: bool
    seed: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Everything but the weights, as plain JSON values."""
        return {
            "classes": list(self.head.classes),
            "model": self.head.model,
            "fingerprint": self.head.fingerprint.digest,
            "standardize": self.head.mean is not None,
            "evaluation": self.evaluation.to_json(),
            "C": self.C,
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "train_items": self.train_items,
            "test_items": self.test_items,
            "missing_labels": self.missing_labels,
            "unknown_keys": self.unknown_keys,
            "shared_content": self.shared_content,
            "converged": self.converged,
            "seed": self.seed,
            "seconds": self.seconds,
        }


def fit_probe(
    store: EmbeddingStore,
    labels: LabelSource = "label",
    *,
    test_store: EmbeddingStore | None = None,
    test_labels: LabelSource | None = None,
    test_size: float = 0.2,
    seed: int = 0,
    C: float | None = None,
    standardize: bool = False,
) -> ProbeResult:
    """Train a linear probe on the labelled rows of a store and test it on others.

    Parameters
    ----------
    store : EmbeddingStore
        Its labelled rows are read block by block; up to 1 GiB of them stay in memory.
    labels : str, Path, mapping or sequence
        A metadata column, a file, or the labels themselves: see :func:`read_labels`.
    test_store : EmbeddingStore, optional
        Items to test on, of the same fingerprint. None: a part of `store` is split off, drawn at random within each
        class.
    test_labels : as `labels`, optional
        For `test_store`; None: found there as in `store`.
    test_size : float
        Share split off where `test_store` is None, between 0 and 1.
    seed : int
        For the split and the folds.
    C : float, optional
        Inverse regularisation strength. None: the one of best accuracy (on a tie, lowest log loss) in stratified
        5-fold cross-validation on the training part, among the 45 values of :data:`logistic.C_GRID`.
    standardize : bool
        Scale each feature to mean 0 and variance 1 on the training part first. Off by default: embeddings are
        commonly of unit length already, and C adapts to the scale.

    Returns
    -------
    ProbeResult
        With the head, trained on the training part only.

    Raises
    ------
    FingerprintMismatch
        The two stores hold vectors of different spaces.
    ColdpressError
        Labels not found or unusable (see :func:`read_labels`), fewer than two classes, too few items in a class, a
        test class that the training part lacks, a vector that is not finite.

    Examples
    --------
    >>> result = fit_probe(store, "label")                          # doctest: +SKIP
    >>> result.evaluation.accuracy, result.evaluation.interval      # doctest: +SKIP
    (0.94, (0.838, 0.979))
    >>> result.head.save("ants-or-bees.head")                       # doctest: +SKIP
    """
    started = time.perf_counter()
    if C is not None and not (np.isfinite(C) and C > 0):
        raise ColdpressError(f"C is {C}, expected a positive number: leave it out to choose it by cross-validation")
    known = read_labels(store, labels)
    check_classes(known, least=2)
    if test_store is None:
        if test_labels is not None:
            raise ColdpressError("test_labels were given without test_store: pass both, or use test_size")
        train, test = split(known, test_size, seed)
    else:
        if test_labels is None and not isinstance(labels, (str, Path, Mapping)):
            raise ColdpressError("labels were given row by row, and test_store has other rows: pass test_labels")
        train, test = known, _read_test(store, known, test_store, labels if test_labels is None else test_labels)
    tested = store if test_store is None else test_store
    head, candidates, converged = _train(store, train, C=C, standardize=standardize, seed=seed)
    predictions = head.predict(Features.of(tested, test.rows).array(np.float32))
    evaluation = evaluate(test.values, predictions, head.classes, majority=most_frequent(train.values))
    result = ProbeResult(
        head=head,
        evaluation=evaluation,
        C=head.C,
        candidates=candidates,
        train_items=len(train.rows),
        test_items=evaluation.items,
        missing_labels=train.missing + (0 if test_store is None else test.missing),
        unknown_keys=_unknown_keys(train, test, split=test_store is None, one_source=test_labels is None),
        shared_content=_shared_content(store, train, tested, test),
        converged=converged,
        seed=seed,
        seconds=time.perf_counter() - started,
    )
    _warn(result)
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


def check_classes(labels: Labels, *, least: int) -> None:
    """Refuse labels of fewer than two classes, or with a class of fewer than `least` items."""
    classes, counts = np.unique(labels.values, return_counts=True)
    if len(classes) < 2:
        raise ColdpressError(f"all {len(labels.values)} labels are {classes[0].item()!r}, expected two classes or more")
    rare = [repr(label) for label in classes[counts < least].tolist()]
    if rare:
        raise ColdpressError(
            f"{len(rare)} of {len(classes)} classes have fewer than {least} items ({', '.join(rare[:5])}): label more"
            " of them or leave these classes out"
        )


def split(labels: Labels, test_size: float, seed: int) -> tuple[Labels, Labels]:
    """Into a training and a test part, stratified.

    Each class keeps two training items, so that its strength can be cross-validated, and gives one.
    """
    if not 0 < test_size < 1:
        raise ColdpressError(f"test_size is {test_size}, expected a share between 0 and 1")
    check_classes(labels, least=3)
    rng = np.random.default_rng(seed)
    is_test = np.zeros(len(labels.rows), dtype=bool)
    for label in np.unique(labels.values):
        members = np.flatnonzero(labels.values == label)
        count = min(max(1, round(test_size * len(members))), len(members) - 2)
        is_test[rng.permutation(members)[:count]] = True
    train, test = (
        Labels(labels.rows[part], labels.values[part], labels.missing, labels.unknown) for part in (~is_test, is_test)
    )
    return train, test


def _train(
    store: EmbeddingStore, part: Labels, *, C: float | None, standardize: bool, seed: int
) -> tuple[Head, tuple[Candidate, ...], bool]:
    """The head, the values of C compared for it, and whether its solver converged."""
    features = Features.of(store, part.rows)
    classes, y = np.unique(part.values, return_inverse=True)
    mean, scale = features.moments() if standardize else (None, None)
    features = replace(features, shift=mean, scale=scale)
    search = None
    if C is None:
        search = logistic.search_C(features, y, fold_numbers(y, seed), columns=len(classes))
        C = search.C
    start = None if search is None else search.start
    coef, intercept, converged = logistic.fit(features, y, C, columns=len(classes), start=start)
    head = Head(
        coef=coef,
        intercept=intercept,
        classes=tuple(classes.tolist()),
        C=C,
        fingerprint=store.fingerprint,
        model=store.model,
        description=store.description,
        mean=mean,
        scale=scale,
        projection=store.projection,
    )
    return head, () if search is None else search.candidates, converged


def fold_numbers(y: Array, seed: int) -> npt.NDArray[np.int64]:
    """The fold (N,) in which each of the items, of classes y (N,) from 0 on, is held out: stratified."""
    from sklearn.model_selection import StratifiedKFold

    count = min(FOLDS, int(np.bincount(y).min()))
    numbers = np.empty(len(y), dtype=np.int64)
    for fold, (_, held_out) in enumerate(StratifiedKFold(count, shuffle=True, random_state=seed).split(y, y)):
        numbers[held_out] = fold
    return numbers


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


def _warn(result: ProbeResult) -> None:
    if result.missing_labels:
        logger.warning("%d rows have no label and were skipped", result.missing_labels)
    if result.unknown_keys:
        logger.warning("%d labels name keys that are not in the store", result.unknown_keys)
    if result.shared_content:
        logger.warning(
            "%d of %d test items have the same content as a training item: the accuracy is too optimistic",
            result.shared_content,
            result.test_items,
        )
    if not result.converged:
        logger.warning("the solver did not come to its end: try standardize=True")
