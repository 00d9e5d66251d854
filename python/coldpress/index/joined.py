"""`JoinedStore`: several stores of one space as one, as far as the building of an index asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.index.rows import RowTable, joined, rows_of_store
from coldpress.store.keys import Keys

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore


class JoinedStore:
    """The rows of stores, one below the other; what describes them is that of the first.

    Parameters
    ----------
    stores : at least one.
    counts : rows to take of each, the first ones; None: all.

    Raises
    ------
    ColdpressError
        There is none, or they have other outputs or another dtype than the first.
    FingerprintMismatch
        They are of different spaces.
    """

    def __init__(self, stores: Sequence[EmbeddingStore], counts: Sequence[int] | None = None) -> None:
        if not stores:
            raise ColdpressError("there is no store to index, expected at least one")
        first = self._first = stores[0]
        for store in stores[1:]:
            _check_alike(first, store)
        self.stores = tuple(stores)
        self._counts = [len(store) for store in stores] if counts is None else list(counts)
        self.fingerprint, self.projection = first.fingerprint, first.projection
        self.model, self.description, self.dtype = first.model, first.description, first.dtype
        self.outputs, self.ragged, self.default_output = first.outputs, first.ragged, first.default_output
        self.dims: Mapping[str, int] = first.dims

    def __len__(self) -> int:
        return sum(self._counts)

    def output(self, name: str) -> StackedMatrix:
        """As of a store."""
        return StackedMatrix([store.output(name) for store in self.stores], self._counts)

    def bits(self, name: str) -> StackedMatrix:
        """As of a store."""
        return StackedMatrix([store.bits(name) for store in self.stores], self._counts)

    @cached_property
    def keys(self) -> Keys:
        """The key of every row."""
        if len(self.stores) == 1:
            return self._first.keys
        return Keys(pa.concat_arrays([store.keys.to_arrow() for store in self.stores]))

    def iter_metadata(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """As of a store."""
        for store in self.stores:
            yield from store.iter_metadata(columns)

    def rows(self) -> RowTable:
        """Keys and metadata; of several stores all of that is in memory.

        Raises
        ------
        ColdpressError
            If stores share a key, or a column holds other things in one than in another.
        """
        if len(self.stores) == 1:
            return rows_of_store(self._first)
        keys = self.keys.to_arrow()
        if (shared := len(keys) - pc.count_distinct(keys).as_py()) > 0:
            raise ColdpressError(
                f"{shared:,} keys are in more than one row of the stores, expected each once: index one of the stores, "
                "then coldpress index OTHER --out INDEX --update puts the rows of another in place of those"
            )
        return joined([rows_of_store(store) for store in self.stores])


class LateKeys:
    """Keys that are read when the first is asked for: an error names one."""

    def __init__(self, store: JoinedStore) -> None:
        self._store = store

    def __getitem__(self, row: int) -> str:
        return self._store.keys[row]


class StackedMatrix:
    """Matrices (n_i, D) as one (N, D) that is sliced, or asked for ascending rows."""

    def __init__(self, parts: Sequence[Any], counts: Sequence[int]) -> None:
        self._parts = parts
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.shape = int(self._starts[-1]), int(parts[0].shape[1])

    def __getitem__(self, index: slice | npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        if isinstance(index, slice):
            start, stop, _ = index.indices(self.shape[0])
            bounds = np.clip(self._starts, start, stop)
            wanted: list[Any] = [slice(*pair) for pair in pairwise(bounds.tolist())]
            sizes = np.diff(bounds)
        else:
            places = np.searchsorted(index, self._starts)
            wanted = [index[begin:end] for begin, end in pairwise(places)]
            sizes = np.diff(places)
        found = [self._of(number, rows) for number, rows in enumerate(wanted) if sizes[number]]
        return found[0] if len(found) == 1 else np.concatenate(found or [self._parts[0][:0]])

    def _of(self, number: int, rows: slice | npt.NDArray[np.int64]) -> Any:
        offset = int(self._starts[number])
        if isinstance(rows, slice):
            return self._parts[number][rows.start - offset : rows.stop - offset]
        return self._parts[number][rows - offset]


def _check_alike(first: EmbeddingStore, other: EmbeddingStore) -> None:
    if first.fingerprint.digest != other.fingerprint.digest:
        differences = "; ".join(first.fingerprint.diff(other.fingerprint))
        raise FingerprintMismatch(
            f"{first.path} and {other.path} are of different spaces (first != other: {differences}): index each by "
            "itself, or embed with the same model and settings, one with --reuse of the other"
        )
    mine, theirs = ((store.dtype, store.outputs) for store in (first, other))
    if mine != theirs:
        raise ColdpressError(
            f"{other.path} has dtype and outputs {theirs}, expected {mine} as {first.path}: index each by itself, or "
            "embed again"
        )
