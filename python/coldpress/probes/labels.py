"""Labels for the rows of a store: from a metadata column, from a file with keys, or given row by row."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from coldpress.errors import ColdpressError

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

LabelSource = str | Path | Mapping[str, Any] | Sequence[Any] | npt.NDArray[Any]
FILE_SUFFIXES = (".csv", ".jsonl", ".parquet")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Labels:
    """Which rows of a store are labelled, and how.

    Attributes
    ----------
    rows : ndarray, shape (N,), int64
        Labelled rows, ascending.
    values : ndarray, shape (N,)
        Their labels: all str or all int.
    missing : int
        Rows of the store without a label.
    unknown : int
        Labels whose key the store does not hold, for example of items that failed.
    """

    rows: npt.NDArray[np.int64]
    values: npt.NDArray[Any]
    missing: int
    unknown: int

    def take(self, part: npt.NDArray[np.bool_]) -> Labels:
        """Those of a part (N,) of the rows."""
        return Labels(self.rows[part], self.values[part], self.missing, self.unknown)


def read_labels(store: EmbeddingStore, labels: LabelSource) -> Labels:
    """Find the label of each row of `store`.

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
    if isinstance(labels, (str, Path)):
        columns = store.metadata.column_names
        if isinstance(labels, str) and labels in columns:
            return _from_rows(store.metadata.column(labels).to_pylist(), f"column {labels!r}")
        if not is_label_file(labels):
            raise ColdpressError(
                f"labels {str(labels)!r} is neither a metadata column (there are {', '.join(columns)}) nor a file"
                f" ending in {', '.join(FILE_SUFFIXES)}: name one of these"
            )
        return _from_keys(store, _read_file(Path(labels)), str(labels))
    if isinstance(labels, Mapping):
        return _from_keys(store, labels.items(), "the mapping")
    values = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    if len(values) != len(store):
        raise ColdpressError(
            f"got {len(values)} labels for {len(store)} rows: pass one per row, or a mapping from key to label"
        )
    return _from_rows(values, "the labels given")


def _from_rows(values: Sequence[Any], origin: str) -> Labels:
    rows = [row for row, value in enumerate(values) if not is_missing(value)]
    if not rows:
        raise ColdpressError(f"{origin} of {len(values)} rows holds no label at all: name another column or a file")
    array = as_array([values[row] for row in rows], origin)
    return Labels(np.asarray(rows, dtype=np.int64), array, missing=len(values) - len(rows), unknown=0)


def _from_keys(store: EmbeddingStore, pairs: Iterable[tuple[Any, Any]], origin: str) -> Labels:
    found = _by_key(pairs, origin)
    keys = [str(key) for key in store.keys]
    rows = [row for row, key in enumerate(keys) if key in found]
    if not rows:
        examples = f"{next(iter(found), 'nothing')!r} there, {keys[0] if keys else 'nothing'!r} in the store"
        raise ColdpressError(f"{origin} labels none of the {len(keys)} keys of the store ({examples}): use its keys")
    values = as_array([found[keys[row]] for row in rows], origin)
    unknown = len(found.keys() - set(keys))
    return Labels(np.asarray(rows, dtype=np.int64), values, missing=len(keys) - len(rows), unknown=unknown)


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
    columns = store.metadata.column_names
    if column not in columns:
        raise ColdpressError(
            f"there is no metadata column {column!r} (there are {', '.join(columns)}): embed with --metadata-column"
        )
    return np.asarray([str(value) for value in store.metadata.column(column).take(rows).to_pylist()], dtype=np.str_)


def is_label_file(labels: str | Path) -> bool:
    """Whether labels come from a file with keys, by its ending, and not from a column."""
    return Path(labels).suffix.lower() in FILE_SUFFIXES


def is_missing(value: Any) -> bool:
    """Whether a value means "no label"."""
    if isinstance(value, str):
        return not value
    # pandas writes a missing value as None, NaN, NaT or <NA>
    return value is None or str(value) in ("nan", "NaT", "<NA>")


def as_array(values: list[Any], origin: str) -> npt.NDArray[Any]:
    """`values` as one array: int64 where all are whole numbers, else str; `origin` names them in an error."""
    if all(isinstance(value, str) and _INTEGER.fullmatch(value) for value in values):
        return np.asarray([int(value) for value in values], dtype=np.int64)
    if all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
        continuous = next((value for value in values if not float(value).is_integer()), None)
        if continuous is not None:
            raise ColdpressError(
                f"{origin} holds the label {continuous}, expected classes (text or whole numbers): bin them first"
            )
        return np.asarray([int(value) for value in values], dtype=np.int64)
    return np.asarray([str(value) for value in values], dtype=np.str_)


def read_label_file(path: Path) -> dict[str, Any]:
    """The label of each key in a ``.csv``, ``.jsonl`` or ``.parquet`` file; raises as :func:`read_labels` does."""
    return _by_key(_read_file(path), str(path))


def _read_file(path: Path) -> list[tuple[Any, Any]]:
    """(key, label) of every row of a labels file."""
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        return readers[path.suffix.lower()](path)
    except KeyError as error:
        raise ColdpressError(
            f"{path} has no column {error}: a labels file has the columns 'key' and 'label'"
        ) from error
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise ColdpressError(f"labels file {path} cannot be read ({error}): check the path and its format") from error


def _read_csv(path: Path) -> list[tuple[Any, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        for column in ("key", "label"):
            if column not in (reader.fieldnames or ()):
                raise KeyError(column)
        return [(row["key"], row["label"]) for row in reader]


def _read_jsonl(path: Path) -> list[tuple[Any, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line is not a JSON object")
    return [(row["key"], row["label"]) for row in rows]


def _read_parquet(path: Path) -> list[tuple[Any, Any]]:
    table = pq.read_table(path)
    return list(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
