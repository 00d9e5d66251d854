"""From stored vectors to what heads take: some rows of a matrix, read block by block, finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError
from coldpress.store.blocks import block_rows

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

F = TypeVar("F", np.float32, np.float64)
Array = npt.NDArray[Any]

HELD_BYTES = 512 << 20
"""As stored: so much is read once and kept where it is used several times."""


def checked(vectors: npt.ArrayLike, dtype: type[F], name: Callable[[int], str]) -> npt.NDArray[F]:
    """`vectors` (N, D) as `dtype`; a row that is not finite raises, called `name` of its position."""
    x = np.ascontiguousarray(vectors, dtype=dtype)
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise ColdpressError(f"{name(row)} holds NaN or Inf, expected finite numbers: remove it or embed it again")
    return x


@dataclass(frozen=True, eq=False)
class Features:
    """Some rows of a matrix on disk or in memory, moved and scaled when they are read.

    Attributes
    ----------
    matrix : (M, D), takes row indices.
    rows : (N,) int64, which of its rows, ascending.
    name : of a row of the matrix, for messages.
    shift, scale : (D,) float64: what is read is ``(vector - shift) / scale``.
    """

    matrix: Any
    rows: npt.NDArray[np.int64]
    name: Callable[[int], str]
    shift: npt.NDArray[np.float64] | None = None
    scale: npt.NDArray[np.float64] | None = None

    @classmethod
    def of(cls, store: EmbeddingStore, rows: npt.NDArray[np.int64], output: str | None = None) -> Features:
        """Of an output of a store, by default its first."""
        matrix = store.embeddings if output is None else store.output(output)
        return cls(matrix, rows, lambda row: f"stored vector {str(store.keys[row])!r} (row {row})")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.matrix.shape[1])

    def take(self, places: npt.NDArray[Any]) -> Features:
        """Some of them: indices into `rows`, or a mask."""
        return replace(self, rows=self.rows[places])

    def held(self) -> Features:
        """The same in memory, so that the store is read once; itself where that would be more than `HELD_BYTES`."""
        if self.matrix.dtype.itemsize * len(self.rows) * self.dim > HELD_BYTES:
            return self
        found, rows = np.asarray(self.matrix[self.rows]), self.rows
        return replace(self, matrix=found, rows=np.arange(len(rows)), name=lambda row: self.name(int(rows[row])))

    def read(self, part: slice) -> npt.NDArray[np.float32]:
        """The vectors of ``rows[part]``, (n, D)."""
        rows = self.rows[part]
        x = checked(self.matrix[rows].astype(np.float32), np.float32, lambda place: self.name(int(rows[place])))
        if self.shift is not None:
            x -= self.shift.astype(np.float32)
        if self.scale is not None:
            x /= self.scale.astype(np.float32)
        return x

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """All of them, in blocks of 32 MiB."""
        step = block_rows(self.dim)
        for start in range(0, len(self.rows), step):
            part = slice(start, start + step)
            yield part, self.read(part)

    def array(self, dtype: type[F]) -> npt.NDArray[F]:
        """All of them in memory, (N, D)."""
        x = np.empty((len(self), self.dim), dtype=dtype)
        for part, block in self.blocks():
            x[part] = block
        return x

    def mean(self) -> npt.NDArray[np.float64]:
        """Of each column, (D,)."""
        total = np.zeros(self.dim)
        for _, block in self.blocks():
            total += block.sum(axis=0, dtype=np.float64)
        return total / len(self)

    def moments(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and standard deviation of each column, (D,) each; 1 for a constant one, as StandardScaler has it."""
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler()
        for _, block in self.blocks():
            scaler.partial_fit(block.astype(np.float64))
        return scaler.mean_, scaler.scale_
