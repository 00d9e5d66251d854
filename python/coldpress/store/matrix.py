"""`ShardedMatrix`: the vectors of many shards as one (N, D) matrix that stays on disk."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import StoreError
from coldpress.store.encoding import decode
from coldpress.store.root import Root

Matrix = npt.NDArray[Any]

_DECODED_ROWS = 16_384


class ShardedMatrix:
    """A read-only matrix (N, D) over npy files; indexing returns numpy arrays.

    Rows are chosen by an integer, a slice, an array of integers or a boolean mask, optionally followed by a slice of
    columns, with the meaning these have in numpy. A slice inside one shard is a view of the mapped file, everything
    else a copy. Use `blocks` to go through all rows in bounded memory.

    Examples
    --------
    >>> store.embeddings[[3, 70_000], :64].shape      # doctest: +SKIP
    (2, 64)
    """

    ndim = 2

    def __init__(self, root: Root, names: Sequence[str], rows: npt.ArrayLike, dim: int, dtype: str) -> None:
        self._root, self._names, self._rows, self._dim = root, names, np.asarray(rows, np.int64), dim
        self._starts = np.concatenate([[0], np.cumsum(self._rows, dtype=np.int64)]).astype(np.int64)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        # Not a method: a cache that held `self` would keep its files open until the cycle is found, 487 at a time.
        load = partial(_map_shard, root, self._names, self._rows, dim, self.dtype)
        self._load = lru_cache(maxsize=root.open_shards)(load)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return int(self._starts[-1]), self._dim

    @property
    def nbytes(self) -> int:
        """What all rows take on disk, and would in memory."""
        return self.shape[0] * self._dim * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"ShardedMatrix({len(self):,} x {self._dim} {self.dtype}, {len(self._names)} shards)"

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardedMatrix, (self._root, self._names, self._rows, self._dim, str(self.dtype))

    def __getitem__(self, index: Any) -> Matrix:
        if isinstance(index, tuple):
            rows, columns = _rows_and_columns(index)
            return self[rows][..., columns]
        if isinstance(index, slice):
            return self._slice(index)
        chosen = np.asarray(index)
        if chosen.ndim == 0:
            return self._row(index)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"boolean index has shape {chosen.shape}, expected ({len(self)},)")
            return self._gather(np.flatnonzero(chosen))
        if chosen.size and chosen.dtype.kind not in "iu":
            raise TypeError(f"got an index of {chosen.dtype}, expected integers, booleans or a slice")
        gathered = self._gather(self._wrap(chosen.astype(np.int64).ravel()))
        return gathered.reshape(*chosen.shape, self._dim)

    def __iter__(self) -> Iterator[Matrix]:
        for block in self.blocks(1024):
            yield from block

    def __array__(
        self,
        dtype: npt.DTypeLike | None = None,
        copy: bool | None = None,  # noqa: FBT001 (numpy's protocol)
    ) -> Matrix:
        if copy is False:
            raise ValueError("a matrix over several files cannot become one array without a copy")
        out = np.empty(self.shape, dtype=self.dtype if dtype is None else dtype)
        for number, start in enumerate(self._starts[:-1]):
            out[start : start + self._rows[number]] = self._load(number)
        return out

    def blocks(self, rows: int) -> Iterator[Matrix]:
        """All rows in order, `rows` at a time (the last block may be shorter)."""
        return iter_blocks(self, rows)

    def _row(self, index: Any) -> Matrix:
        if isinstance(index, bool | np.bool_):
            raise TypeError("got a single boolean, expected a mask with one per row")
        row: Matrix = self._gather(self._wrap(np.array([operator.index(index)], dtype=np.int64)))[0]
        return row

    def _slice(self, index: slice) -> Matrix:
        start, stop, step = index.indices(len(self))
        if step != 1:
            return self._gather(np.arange(start, stop, step, dtype=np.int64))
        parts: list[Matrix] = []
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            offset, end = int(self._starts[number]), min(stop, int(self._starts[number + 1]))
            if end > start:
                parts.append(self._load(number)[start - offset : end - offset])
            start, number = max(start, end), number + 1
        if not parts:
            return np.empty((0, self._dim), dtype=self.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _wrap(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Negative rows counted from the end, as numpy does; IndexError beyond."""
        n = len(self)
        outside = (rows < -n) | (rows >= n)
        if outside.any():
            raise IndexError(f"row {rows[outside][0]} is out of bounds for {n} rows")
        return np.where(rows < 0, rows + n, rows)

    def _gather(self, rows: npt.NDArray[np.int64]) -> Matrix:
        """Rows in the order asked, each shard visited once."""
        out = np.empty((len(rows), self._dim), dtype=self.dtype)
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(shards, kind="stable")
        for positions in np.split(order, np.flatnonzero(np.diff(shards[order])) + 1):
            if len(positions):
                number = int(shards[positions[0]])
                out[positions] = self._load(number)[rows[positions] - self._starts[number]]
        return out


class DecodedMatrix:
    """A read-only float32 matrix (N, D) of vectors stored otherwise, decoded when they are asked for.

    Rows are chosen as in `ShardedMatrix`; everything that comes back is a copy. `stored` has the arrays (N, width) as
    they are: of int8 the bytes and the scales (N, 1).
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, stored: Sequence[ShardedMatrix], kind: str, dim: int) -> None:
        self.stored, self._kind, self._dim = tuple(stored), kind, dim

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self), self._dim

    @property
    def nbytes(self) -> int:
        """What all rows take on disk."""
        return sum(array.nbytes for array in self.stored)

    def __len__(self) -> int:
        return len(self.stored[0])

    def __repr__(self) -> str:
        return f"DecodedMatrix({len(self):,} x {self._dim} {self._kind})"

    def __getitem__(self, index: Any) -> Matrix:
        if isinstance(index, tuple):
            rows, columns = _rows_and_columns(index)
            return self[rows][..., columns]
        return decode(tuple(array[index] for array in self.stored), self._kind, self._dim)

    def __iter__(self) -> Iterator[Matrix]:
        for block in self.blocks(1024):
            yield from block

    def __array__(
        self,
        dtype: npt.DTypeLike | None = None,
        copy: bool | None = None,  # noqa: FBT001 (numpy's protocol)
    ) -> Matrix:
        if copy is False:
            raise ValueError("a matrix that is decoded cannot become an array without a copy")
        out = np.empty(self.shape, dtype=self.dtype if dtype is None else dtype)
        for start in range(0, len(self), _DECODED_ROWS):
            out[start : start + _DECODED_ROWS] = self[start : start + _DECODED_ROWS]
        return out

    def blocks(self, rows: int) -> Iterator[Matrix]:
        """All rows in order, `rows` at a time (the last block may be shorter)."""
        return iter_blocks(self, rows)


VectorMatrix = ShardedMatrix | DecodedMatrix | Matrix


def _rows_and_columns(index: tuple[Any, ...]) -> tuple[Any, slice]:
    if len(index) != 2 or not isinstance(index[1], slice):
        raise TypeError("expected matrix[rows] or matrix[rows, start:stop]")
    return index[0], index[1]


def _map_shard(
    root: Root, names: Sequence[str], rows: npt.NDArray[np.int64], dim: int, dtype: np.dtype[Any], number: int
) -> Matrix:
    return map_matrix(root, names[number], int(rows[number]), dim, dtype).view(np.ndarray)


def map_matrix(root: Root, name: str, rows: int, dim: int, dtype: npt.DTypeLike) -> np.memmap[Any, Any]:
    """Map one npy file; raises `StoreError` unless it holds exactly that matrix."""
    try:
        matrix = np.load(root.fetch(name), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{root}/{name}: cannot be read: {error}; restore it, or embed again") from error
    if not isinstance(matrix, np.memmap) or matrix.shape != (rows, dim) or matrix.dtype != np.dtype(dtype):
        found = f"{matrix.dtype} {matrix.shape}" if isinstance(matrix, np.ndarray) else type(matrix).__name__
        raise StoreError(
            f"{root}/{name}: damaged: holds {found}, expected {np.dtype(dtype)} {(rows, dim)}; embed again"
        )
    return matrix


def iter_blocks(matrix: VectorMatrix, rows: int) -> Iterator[Matrix]:
    """Consecutive blocks of `rows` rows of any matrix that can be sliced."""
    if rows < 1:
        raise ValueError(f"rows is {rows}, expected at least 1")
    return (matrix[start : start + rows] for start in range(0, len(matrix), rows))
