"""Opening what a store has committed: a matrix of vectors, or a matrix for each item."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.store.encoding import OFFSETS, Part
from coldpress.store.files import NPY_HEADER_BYTES
from coldpress.store.manifest import Manifest
from coldpress.store.matrix import DecodedMatrix, Matrix, ShardedMatrix, VectorMatrix, map_matrix
from coldpress.store.names import PartNames, StoredOutput, matrix_file
from coldpress.store.root import Root
from coldpress.types import Ragged


class RaggedMatrix:
    """A read-only matrix (n_i, D) for each of N items, of a store with tokens or patches; they stay on disk.

    Examples
    --------
    >>> tokens = store.output("tokens")                       # doctest: +SKIP
    >>> tokens[store.row("report.txt:17")].shape              # doctest: +SKIP
    (23, 384)

    Attributes
    ----------
    values : the rows (T, D) of all items, one below the other.
    """

    def __init__(
        self, values: VectorMatrix, offsets: ShardedMatrix, items: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> None:
        self.values, self._offsets = values, offsets
        self._first_items, self._first_rows = (np.concatenate([[0], np.cumsum(n)]) for n in (items, rows))

    @property
    def dim(self) -> int:
        """Width D."""
        return int(self.values.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the matrices."""
        return self.values.dtype

    def __len__(self) -> int:
        return len(self._offsets)

    def __repr__(self) -> str:
        return f"RaggedMatrix({len(self):,} items, {len(self.values):,} x {self.dim} {self.dtype})"

    def spans(self, items: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(first, end) of the rows of each item among `values`, (N, 2)."""
        shards = np.searchsorted(self._first_items, items, side="right") - 1
        return np.asarray(self._offsets[items] + self._first_rows[shards][:, None])

    def __getitem__(self, item: int) -> Matrix:
        """The matrix (n_i, D) of one item; negative numbers count from the end."""
        if isinstance(item, slice | tuple) or np.ndim(item):
            raise TypeError("expected the number of one item: each has a matrix of its own; `take` gives several")
        number = operator.index(item)
        if not -len(self) <= number < len(self):
            raise IndexError(f"item {number} is out of bounds for {len(self)}")
        ((first, end),) = self.spans(np.array([number % len(self)]))
        return np.asarray(self.values[int(first) : int(end)])

    def __iter__(self) -> Iterator[Matrix]:
        return (self[item] for item in range(len(self)))

    def take(self, items: npt.NDArray[np.int64]) -> Ragged:
        """Several items as float32, one below the other."""
        parts = [np.asarray(self[int(item)], np.float32) for item in items]
        counts = np.array([len(part) for part in parts], np.int64)
        return Ragged(np.concatenate([np.empty((0, self.dim), np.float32), *parts]), counts)


def open_output(root: Root, manifest: Manifest, output: StoredOutput) -> VectorMatrix | RaggedMatrix:
    """The committed vectors of one output: the mapped file where there is one shard of floats, else a matrix over all.

    Signs become +-1 / sqrt(D).
    """
    parts = [part for part in output.parts(manifest.dtype) if part != OFFSETS]
    values: VectorMatrix
    if len(parts) > 1 or manifest.dtype == "binary":
        stored = [part_matrix(root, manifest, output, part) for part in parts]
        values = DecodedMatrix(stored, manifest.dtype, output.dim)
    else:
        values = open_part(root, manifest, output, *parts)
    return ragged_matrix(root, manifest, output, values) if output.ragged else values


def ragged_matrix(root: Root, manifest: Manifest, output: StoredOutput, values: VectorMatrix) -> RaggedMatrix:
    """The rows of some array of a ragged output, by item."""
    offsets = part_matrix(root, manifest, output, OFFSETS)
    first = output.parts(manifest.dtype)[0]
    return RaggedMatrix(values, offsets, manifest.shards.rows, _rows(manifest, output, first))


def open_part(root: Root, manifest: Manifest, output: StoredOutput, part: Part) -> ShardedMatrix | Matrix:
    """One array as it is stored: the mapped file where there is one shard, else a matrix over all."""
    if not manifest.shards:
        return np.empty((0, part.width), dtype=part.dtype)
    if len(manifest.shards) == 1:
        (rows,) = _rows(manifest, output, part)
        return map_matrix(root, matrix_file(output, part, 0), int(rows), part.width, part.dtype)
    return part_matrix(root, manifest, output, part)


def part_matrix(root: Root, manifest: Manifest, output: StoredOutput, part: Part) -> ShardedMatrix:
    """The same as a matrix over any number of shards, none of which is opened before a row of it is wanted."""
    names = PartNames(output, part, len(manifest.shards))
    return ShardedMatrix(root, names, _rows(manifest, output, part), part.width, part.dtype)


def _rows(manifest: Manifest, output: StoredOutput, part: Part) -> npt.NDArray[np.int64]:
    """Rows of an array in each shard; of the tokens of items the manifest has no count, but the size of the file."""
    if part == OFFSETS or not output.ragged:
        return manifest.shards.rows
    sizes = manifest.shards.sizes(matrix_file(output, part, 0))
    return (sizes - NPY_HEADER_BYTES) // (part.width * np.dtype(part.dtype).itemsize)
