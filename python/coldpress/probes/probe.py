"""`fit_probe`: logistic regression on frozen features, judged on items that it was not trained on."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.probes.candidates import Candidate
from coldpress.probes.evaluate import Evaluation, Label, evaluate
from coldpress.probes.features import Features
from coldpress.probes.head import Head
from coldpress.probes.heads import Trained, train
from coldpress.probes.labels import Labels, LabelSource, read_groups, read_labels
from coldpress.probes.splits import check_classes, fold_numbers, split

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a probe is trained.

    Attributes
    ----------
    heads : of ``logistic``, ``ridge``, ``lda`` and ``centroid``: the best in cross-validation is taken, by accuracy
        and, on a tie, log loss. Folds are stratified, five where classes are large enough.
    outputs : of the store, to compare in the same way, or ``all``; empty for its first.
    C : inverse strength of logistic regression. None: chosen among 45 values from 1e-6 to 1e5.
    balanced : weight classes by the inverse of their frequency.
    standardize : scale each feature to mean 0 and variance 1 on the training part first. Off by default: embeddings are
        commonly of unit length already, and C adapts to the scale.
    groups : metadata column whose equal values (a patient, a video) never are on both sides of a split or fold.
    seed : for the split and the folds.
    """

    heads: Sequence[str] = ("logistic",)
    outputs: Sequence[str] = ()
    C: float | None = None
    balanced: bool = False
    standardize: bool = False
    groups: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.C is not None and not (np.isfinite(self.C) and self.C > 0):
            raise ColdpressError(
                f"C is {self.C}, expected a positive number: leave it out to choose it by cross-validation"
            )


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A trained head and how far to trust it.

    Attributes
    ----------
    head : Head
        Trained on the training part alone, so that `evaluation` is about exactly this head.
    evaluation : Evaluation
        On the test part.
    candidates : tuple of Candidate
        The heads, settings and features compared; empty where there was no choice.
    features : str
        The name of the chosen store and output among several.
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
    candidates: tuple[Candidate, ...]
    features: str
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
            "head_kind": self.head.kind,
            "setting": self.head.setting,
            "features": self.features,
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
    stores: EmbeddingStore | Sequence[EmbeddingStore],
    labels: LabelSource = "label",
    *,
    recipe: Recipe | None = None,
    test_store: EmbeddingStore | None = None,
    test_labels: LabelSource | None = None,
    test_size: float = 0.2,
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
    predictions = head.predict(Features.of(tested, rows, source.output).array(np.float32))
    result = ProbeResult(
        head=head,
        evaluation=evaluate(test.values, predictions, head.classes, majority=most_frequent(train_part.values)),
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
