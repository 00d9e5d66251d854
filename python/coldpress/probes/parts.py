"""What a head is trained and tested on: vectors of labelled items in two parts, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.probes.features import Features
from coldpress.probes.head import Head
from coldpress.probes.labels import Labels, LabelSource, read_groups
from coldpress.probes.leaks import near_duplicates
from coldpress.probes.result import Recipe
from coldpress.probes.training import Trained

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reading:
    """How the labels of a task are read, those of a test store made to fit the training ones, and split."""

    read: Callable[[EmbeddingStore, LabelSource], Labels]
    fit: Callable[[Labels, Labels], Labels]
    split: Callable[[Labels, float, int, Array | None], tuple[Labels, Labels]]


@dataclass(frozen=True)
class Tests:
    """Where the test part comes from: a store, or a share `size` of the training one."""

    store: EmbeddingStore | None
    labels: LabelSource | None
    size: float


@dataclass(frozen=True)
class Source:
    """Vectors to learn from: an output of a store, None for its first, and the row of each labelled item in it.

    `features` are read from them, moved and scaled if that was asked for.
    """

    store: EmbeddingStore
    output: str | None
    rows: npt.NDArray[np.int64]
    features: Features

    @property
    def plain(self) -> Features:
        """Neither moved nor scaled."""
        return replace(self.features, shift=None, scale=None)


@dataclass(frozen=True)
class Parts:
    """The training part, with the `groups` (N,) of its items and what it is seen as by name; and the test part.

    `store` has the rows of the labels; those of the test are of `test_store`, where there is one.
    """

    store: EmbeddingStore
    test_store: EmbeddingStore | None
    train: Labels
    test: Labels
    groups: Array | None
    sources: Mapping[str, Source]
    one_source: bool

    @property
    def features(self) -> dict[str, Features]:
        """Those of each source."""
        return {name: source.features for name, source in self.sources.items()}


@dataclass(frozen=True)
class Tested:
    """The items of the test part, but leaks if they were dropped: vectors X (n, D), labels, keys; and
    the near duplicates among the items `compared`.
    """

    X: Array
    labels: Labels
    keys: Sequence[str]
    leaks: tuple[tuple[str, str, float], ...]
    compared: int


def make_parts(
    stores: EmbeddingStore | Sequence[EmbeddingStore],
    labels: LabelSource,
    reading: Reading,
    recipe: Recipe,
    tests: Tests,
) -> Parts:
    """Read labels and divide the items; arguments and errors as of :func:`fit_probe`."""
    test_store, test_labels = tests.store, tests.labels
    compared = list(stores) if isinstance(stores, Sequence) else [stores]
    if test_store is not None and len(compared) > 1:
        raise ColdpressError("test_store is of one space, and several stores were given: use test_size, or one store")
    store = compared[0]
    known = reading.read(store, labels)
    groups = None if recipe.groups is None else read_groups(store, recipe.groups, known.rows)
    if test_store is None:
        if test_labels is not None:
            raise ColdpressError("test_labels were given without test_store: pass both, or use test_size")
        train, test = reading.split(known, tests.size, recipe.seed, groups)
    else:
        if test_labels is None and not isinstance(labels, (str, Path, Mapping)):
            raise ColdpressError("labels were given row by row, and test_store has other rows: pass test_labels")
        _check_space(store, test_store)
        train = known
        test = reading.fit(known, reading.read(test_store, labels if test_labels is None else test_labels))
    if groups is not None:
        groups = groups[np.isin(known.rows, train.rows)]
    sources = _sources(compared, recipe, train)
    return Parts(store, test_store, train, test, groups, sources, one_source=test_labels is None)


def _check_space(store: EmbeddingStore, test_store: EmbeddingStore) -> None:
    if test_store.fingerprint.digest != store.fingerprint.digest:
        differences = "; ".join(store.fingerprint.diff(test_store.fingerprint))
        raise FingerprintMismatch(
            f"the training and test stores hold different spaces (training != test: {differences}): embed both with"
            " the same model and settings, one with --reuse of the other"
        )


def _sources(stores: Sequence[EmbeddingStore], recipe: Recipe, train: Labels) -> dict[str, Source]:
    """What is compared, by name; the items of the first store are looked up by their keys in the others."""
    found: dict[str, Source] = {}
    keys = [str(stores[0].keys[row]) for row in train.rows] if len(stores) > 1 else []
    for store in stores:
        rows = train.rows if store is stores[0] else np.asarray([store.row(key) for key in keys], dtype=np.int64)
        pooled = [name for name in store.outputs if name not in store.ragged]
        asked = recipe.outputs
        wanted: list[str | None] = [None] if not asked else [n for n in pooled if n in asked or "all" in asked]
        if not wanted:
            raise ColdpressError(f"{store.path} has no output {', '.join(asked)}: expected {', '.join(pooled)} or all")
        for output in wanted:
            name = " ".join(filter(None, (store.model if len(stores) > 1 else "", output)))
            name = name if name not in found else f"{name} {store.path}"
            features = Features.of(store, rows, output).held()
            if recipe.standardize:
                shift, scale = features.moments()
                features = replace(features, shift=shift, scale=scale)
            found[name] = Source(store, output, rows, features)
    return found


def head_of(source: Source, trained: Trained, **task: Any) -> Head:
    """The head of a fit, with the space of its vectors; `task` is what it predicts."""
    return Head(
        tensors=trained.tensors,
        kind=trained.kind,
        setting=trained.setting,
        temperature=trained.temperature,
        output=source.output,
        fingerprint=source.store.fingerprint,
        model=source.store.model,
        description=source.store.description,
        mean=source.features.shift,
        scale=source.features.scale,
        projection=source.store.projection,
        **task,
    )


def take_test(parts: Parts, source: Source, *, drop_leaks: bool, seed: int) -> Tested:
    """The vectors of the test part as `source` has them, and which of them are near duplicates of training items."""
    store, labels = parts.test_store or source.store, parts.test
    rows = labels.rows
    if parts.test_store is None and source.store is not parts.store:
        rows = np.asarray([store.row(str(parts.store.keys[row])) for row in rows], dtype=np.int64)
    features = Features.of(store, rows, source.output)
    leaks = near_duplicates(source.plain, features, seed=seed)
    found = zip(rows[leaks.test], source.rows[leaks.train], leaks.cosine, strict=True)
    pairs = tuple((str(store.keys[a]), str(source.store.keys[b]), round(float(c), 4)) for a, b, c in found)
    if drop_leaks and len(leaks.test):
        kept = ~np.isin(np.arange(len(rows)), leaks.test)
        if not kept.any():
            raise ColdpressError("every test item has a near duplicate in the training part: test on other items")
        rows, labels, features = rows[kept], labels.take(kept), features.take(kept)
    return Tested(features.array(np.float32), labels, [str(store.keys[row]) for row in rows], pairs, leaks.compared)


def groups_of(parts: Parts, tested: Tested, column: str | None) -> Array | None:
    """The values of a metadata column for the items of the test, if one is named."""
    return None if column is None else read_groups(parts.test_store or parts.store, column, tested.labels.rows)


def conditions(parts: Parts, trained: Trained, tested: Tested, recipe: Recipe, *, drop_leaks: bool) -> dict[str, Any]:
    """What every result says of how it came about, see :class:`Conditions`."""
    return {
        "leaks": tested.leaks,
        "leaks_compared": tested.compared,
        "leaks_dropped": drop_leaks,
        "candidates": trained.candidates,
        "features": trained.features,
        "train_items": len(parts.train.rows),
        "test_items": len(tested.labels.rows),
        "missing_labels": parts.train.missing + (0 if parts.test_store is None else parts.test.missing),
        "unknown_keys": _unknown_keys(parts),
        "shared_content": _shared_content(parts.store, parts.train, parts.test_store or parts.store, tested.labels),
        "converged": trained.converged,
        "balanced": recipe.balanced,
        "seed": recipe.seed,
    }


def _unknown_keys(parts: Parts) -> int:
    """Labels whose key is in neither store; where one source labels both, each store knows the other's keys not."""
    train, test = parts.train, parts.test
    if parts.test_store is None:
        return train.unknown
    return max(0, train.unknown - len(test.rows)) if parts.one_source else train.unknown + test.unknown


def _shared_content(store: EmbeddingStore, train: Labels, tested: EmbeddingStore, test: Labels) -> int:
    """How many test items have the content of a training item; 0 where a store keeps no hashes."""
    name = "content_hash"
    if name not in store.columns or name not in tested.columns:
        return 0
    known, asked = store.take_metadata(train.rows, [name]), tested.take_metadata(test.rows, [name])
    trained = set(known.column(name).to_pylist()) - {None, ""}
    return sum(value in trained for value in asked.column(name).to_pylist())
