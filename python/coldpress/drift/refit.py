"""`refit_head`: a head trained again with labels of the new data, and what that brings on new items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldpress.errors import ColdpressError
from coldpress.probes import Head, Recipe, fit_probe, read_labels
from coldpress.probes.evaluate import accuracy_change, wilson_interval
from coldpress.probes.splits import split
from coldpress.store.keys import Keys

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

Array = npt.NDArray[Any]
Places = npt.NDArray[np.int64]

HELD_OUT = 0.5
"""Share of the newly labelled items that test and do not train: they are few, and both sides need them."""


@dataclass(frozen=True, eq=False, slots=True)
class Refit:
    """A head before and after, on new items that neither has been trained on.

    Attributes
    ----------
    head : Head
        The new one.
    items, leaks : int
        New items tested, and such that were not, because a near duplicate is among those that train.
    before, after : float
        Accuracy of the old and of the new head, with 95 % intervals `before_interval` and `after_interval`.
    change, change_interval : float
        Of accuracy on the same items, and its paired 95 % interval.
    trained_old, trained_new : int
        Items that the new head was trained on, of each store.
    new_classes : tuple
        Labels that the old head did not know.
    """

    head: Head
    items: int
    leaks: int
    before: float
    before_interval: tuple[float, float]
    after: float
    after_interval: tuple[float, float]
    change: float
    change_interval: tuple[float, float]
    trained_old: int
    trained_new: int
    new_classes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything but the head, as plain JSON values."""
        shown = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "head"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in shown.items()}


def refit_head(
    head: Head, reference: EmbeddingStore, new: EmbeddingStore, labels: str | Path, *, seed: int = 0
) -> Refit:
    """Train a head of the same kind on all labelled rows of the reference and half of those of the new store.

    Its recipe is the one that the head was trained by: kind, standardised features, class weights, and a setting that
    was given; one that was chosen by cross-validation is chosen again.

    Parameters
    ----------
    head : Head
        The one in use.
    reference, new : EmbeddingStore
        Of its space.
    labels : str or Path
        A metadata column of both stores, or a file with the keys of both: see :func:`read_labels`.
    seed : int
        For the split of the new labels, within each class.

    Raises
    ------
    FingerprintMismatch
        The stores hold vectors of another space than the head has learned from.
    ColdpressError
        Labels not found or unusable, fewer than three of a class in the new store.
    """
    if head.task != "classify":
        raise ColdpressError(f"the head is for {head.task}, only classifiers are trained again: use coldpress probe")
    head.check(reference.fingerprint)
    head.check(new.fingerprint)
    old_labels, new_labels = read_labels(reference, labels), read_labels(new, labels)
    train, test = split(new_labels, HELD_OUT, seed)
    trained = fit_probe(
        cast("EmbeddingStore", _Rows(((reference, old_labels.rows), (new, train.rows)))),
        [*old_labels.values.tolist(), *train.values.tolist()],
        recipe=_recipe(head, seed),
        test_store=cast("EmbeddingStore", _Rows(((new, test.rows),))),
        test_labels=test.values.tolist(),
        drop_leaks=True,
    )
    leaked = {key for key, _, _ in trained.leaks}
    test = test.take(np.array([str(new.keys[row]) not in leaked for row in test.rows]))
    truth = test.values.astype(np.str_)
    X = np.asarray(head.matrix(new)[test.rows], np.float32)
    before, after = (one.predict(X).astype(np.str_) == truth for one in (head, trained.head))
    change, interval = accuracy_change(before, after)
    before_classes = {str(label) for label in head.classes}
    return Refit(
        head=trained.head,
        items=len(truth),
        leaks=len(leaked),
        before=float(before.mean()),
        before_interval=wilson_interval(int(before.sum()), len(truth)),
        after=float(after.mean()),
        after_interval=wilson_interval(int(after.sum()), len(truth)),
        change=change,
        change_interval=interval,
        trained_old=len(old_labels.rows),
        trained_new=len(train.rows),
        new_classes=tuple(str(label) for label in trained.head.classes if str(label) not in before_classes),
    )


def _recipe(head: Head, seed: int) -> Recipe:
    """How the head was trained, as far as its report tells."""
    chosen = bool(head.report.get("candidates"))
    return Recipe(
        heads=(head.kind,),
        outputs=() if head.output is None else (head.output,),
        C=head.setting if head.kind == "logistic" and not chosen else None,
        balanced=bool(head.report.get("balanced")),
        standardize=head.mean is not None,
        seed=seed,
    )


@dataclass(frozen=True, eq=False)
class _Stacked:
    """Rows of several matrices, one below the other, that stay where they are; chosen by an array of integers."""

    parts: tuple[tuple[Any, Places], ...]
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        return sum(len(rows) for _, rows in self.parts), int(self.parts[0][0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: Array) -> Array:
        found, first = np.empty((len(wanted), self.shape[1]), np.float32), 0
        for matrix, rows in self.parts:
            inside = (wanted >= first) & (wanted < first + len(rows))
            found[inside] = matrix[rows[wanted[inside] - first]]
            first += len(rows)
        return found


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows of stores of one space, as training reads a store."""

    parts: tuple[tuple[EmbeddingStore, Places], ...]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parts[0][0], name)  # space, model and outputs, which all have in common

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.parts)

    @cached_property
    def keys(self) -> Keys:
        return Keys(pa.concat_arrays([store.keys.to_arrow().take(rows) for store, rows in self.parts]))

    def take_metadata(self, rows: Places, columns: Sequence[str]) -> pa.Table:
        """Of ascending rows."""
        ends = np.cumsum([len(own) for _, own in self.parts])
        cut = np.split(rows, np.searchsorted(rows, ends[:-1]))
        firsts = np.concatenate([[0], ends[:-1]])
        tables = [
            store.take_metadata(own[part - first], columns)
            for (store, own), part, first in zip(self.parts, cut, firsts, strict=True)
        ]
        return pa.concat_tables(tables, promote_options="default")

    @property
    def embeddings(self) -> _Stacked:
        return self.output(self.parts[0][0].default_output)

    def output(self, name: str) -> _Stacked:
        return _Stacked(tuple((store.output(name), rows) for store, rows in self.parts))
