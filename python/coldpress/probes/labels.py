"""Labels for the rows of a store: from a metadata column, from a file with keys, or given row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError
from coldpress.probes.label_files import FILE_SUFFIXES, is_label_file, read_pairs
from coldpress.probes.label_values import Task, as_array, as_numbers, as_sets, infer_task, is_missing

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

LabelSource = str | Path | Mapping[str, Any] | Sequence[Any] | npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Labels:
    """Which rows of a store are labelled, and how.

    Attributes
    ----------
    rows : ndarray, shape (N,), int64
        Labelled rows, ascending.
    values : ndarray, shape (N,) or (N, L)
        Their labels: all str or all int; numbers, float64; or of several labels an item uint8, 1 where it has one.
    missing : int
        Rows of the store without a label.
    unknown : int
        Labels whose key the store does not hold, for example of items that failed.
    names : tuple, length L
        Of several labels an item.
    """

    rows: npt.NDArray[np.int64]
    values: npt.NDArray[Any]
    missing: int
    unknown: int
    names: tuple[str | int, ...] = ()

    def take(self, part: npt.NDArray[np.bool_]) -> Labels:
        """Those of a part (N,) of the rows."""
        return replace(self, rows=self.rows[part], values=self.values[part])


def read_labels(store: EmbeddingStore, labels: LabelSource) -> Labels:
    """Find the class of each row of `store`.

    Parameters
    ----------
    store : EmbeddingStore
    labels : str, Path, mapping or sequence
        The name of a metadata column; else a ``.csv``, ``.jsonl`` or ``.parquet`` file with columns ``key`` and
        ``label``; or a mapping from key to label; or one label per row. Null, NaN and empty text mean "no label".
        Labels that are all whole numbers, also written as text, become int; anything else is text.

    Raises
    ------
    ColdpressError
        No such column or file, a key with two different labels, continuous labels, nothing labelled.

    Examples
    --------
    >>> labels = read_labels(store, "label")         # doctest: +SKIP
    >>> labels = read_labels(store, "labels.csv")    # doctest: +SKIP
    """
    found = _find(store, labels)
    return found.labels(as_array(found.values, found.origin))


def read_numbers(store: EmbeddingStore, labels: LabelSource) -> Labels:
    """Find the number that each row is labelled with; arguments and errors as of :func:`read_labels`."""
    found = _find(store, labels)
    return found.labels(as_numbers(found.values, found.origin))


def read_label_sets(store: EmbeddingStore, labels: LabelSource, separator: str | None = None) -> Labels:
    """Find the labels of each row, of which it may have several or, where it has an empty list, none.

    Arguments and errors as of :func:`read_labels`; labels are lists, the JSON text of lists, or text with a
    `separator` between them.
    """
    found = _find(store, labels)
    values, names = as_sets(found.values, found.origin, separator)
    return found.labels(values, names)


def task_of(store: EmbeddingStore, labels: LabelSource) -> tuple[Task, str]:
    """What labels are for, and why: see :func:`infer_task`."""
    return infer_task(_find(store, labels).values)


@dataclass(frozen=True)
class _Found:
    """Labels as they were given, of the rows that have one."""

    rows: list[int]
    values: list[Any]
    origin: str
    missing: int
    unknown: int

    def labels(self, values: npt.NDArray[Any], names: tuple[str | int, ...] = ()) -> Labels:
        """With what they mean."""
        return Labels(np.asarray(self.rows, dtype=np.int64), values, self.missing, self.unknown, names)


def _find(store: EmbeddingStore, labels: LabelSource) -> _Found:
    if isinstance(labels, (str, Path)):
        if isinstance(labels, str) and labels in store.columns:
            return _from_rows(store.read_metadata([labels]).column(labels).to_pylist(), f"column {labels!r}")
        if not is_label_file(labels):
            raise ColdpressError(
                f"labels {str(labels)!r} is neither a metadata column (there are {', '.join(store.columns)}) nor a file"
                f" ending in {', '.join(FILE_SUFFIXES)}: name one of these"
            )
        return _from_keys(store, read_pairs(Path(labels)), str(labels))
    if isinstance(labels, Mapping):
        return _from_keys(store, labels.items(), "the mapping")
    values = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    if len(values) != len(store):
        raise ColdpressError(
            f"got {len(values)} labels for {len(store)} rows: pass one per row, or a mapping from key to label"
        )
    return _from_rows(values, "the labels given")


def _from_rows(values: Sequence[Any], origin: str) -> _Found:
    rows = [row for row, value in enumerate(values) if not is_missing(value)]
    if not rows:
        raise ColdpressError(f"{origin} of {len(values)} rows holds no label at all: name another column or a file")
    return _Found(rows, [values[row] for row in rows], origin, missing=len(values) - len(rows), unknown=0)


def _from_keys(store: EmbeddingStore, pairs: Iterable[tuple[Any, Any]], origin: str) -> _Found:
    found = _by_key(pairs, origin)
    keys = [str(key) for key in store.keys]
    rows = [row for row, key in enumerate(keys) if key in found]
    if not rows:
        examples = f"{next(iter(found), 'nothing')!r} there, {keys[0] if keys else 'nothing'!r} in the store"
        raise ColdpressError(f"{origin} labels none of the {len(keys)} keys of the store ({examples}): use its keys")
    unknown = len(found.keys() - set(keys))
    return _Found(rows, [found[keys[row]] for row in rows], origin, len(keys) - len(rows), unknown)


def _by_key(pairs: Iterable[tuple[Any, Any]], origin: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for given, value in pairs:
        key = str(given)
        if is_missing(value):
            continue
        if key in found and found[key] != value:
            raise ColdpressError(
                f"{origin} gives key {key!r} the labels {found[key]!r} and {value!r}: keep one of them"
            )
        found[key] = value
    return found


def read_groups(store: EmbeddingStore, column: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The value (N,) of a metadata column for each of some rows, as text; null is a group of its own.

    Raises
    ------
    ColdpressError
        No such column.
    """
    if column not in store.columns:
        raise ColdpressError(
            f"there is no metadata column {column!r} (there are {', '.join(store.columns)}): embed with"
            " --metadata-column"
        )
    values = store.take_metadata(rows, [column]).column(column)
    return np.asarray([str(value) for value in values.to_pylist()], dtype=np.str_)


def read_label_file(path: Path) -> dict[str, Any]:
    """The label of each key in a ``.csv``, ``.jsonl`` or ``.parquet`` file; raises as :func:`read_labels` does."""
    return _by_key(read_pairs(path), str(path))
