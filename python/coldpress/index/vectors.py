"""From stored vectors to what faiss takes: float32, C order, checked, of unit length where the metric is cosine."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError
from coldpress.store.blocks import block_rows

Metric = Literal["cosine", "dot"]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def prepare(vectors: npt.ArrayLike, metric: Metric, name: Callable[[int], str]) -> Floats:
    """A fresh float32 copy of `vectors` (N, D), with rows of unit length when `metric` is ``"cosine"``.

    `name` says what row i is called in an error message: a row that is not finite, or has no direction under
    cosine, raises :class:`~coldpress.errors.ColdpressError`.
    """
    x = np.array(vectors, dtype=np.float32, order="C")
    # float64 sums: the square of a float32 neither overflows nor vanishes
    squares = np.einsum("nd,nd->n", x, x, dtype=np.float64)
    if not np.isfinite(squares).all():
        row = int(np.flatnonzero(~np.isfinite(squares))[0])
        raise ColdpressError(f"{name(row)} holds NaN or Inf, expected finite numbers: remove it or embed it again")
    if metric == "cosine":
        if not squares.all():
            row = int(np.flatnonzero(squares == 0)[0])
            raise ColdpressError(
                f"{name(row)} is all zeros and has no direction, so no cosine: remove it or use metric='dot'"
            )
        x /= np.sqrt(squares).astype(np.float32)[:, None]
    return x


def stored_name(keys: Any, start: int) -> Callable[[int], str]:
    """Names for the rows of a block of a store that begins at row `start`."""
    return lambda row: f"stored vector {str(keys[start + row])!r} (row {start + row})"


def prepared_blocks(
    matrix: Any, metric: Metric, keys: Any, first: int = 0, end: int | None = None
) -> Iterator[tuple[int, Floats]]:
    """(first row, prepared block) over `matrix` (N, D) or its rows `first` to `end`, one block in memory at a time."""
    rows, dim = matrix.shape
    rows, step = rows if end is None else end, block_rows(dim)
    for start in range(first, rows, step):
        stop = min(start + step, rows)
        yield start, prepare(matrix[start:stop], metric, stored_name(keys, start))
        forget(matrix, start, stop)


def prepared_rows(matrix: Any, rows: Rows, metric: Metric, keys: Any) -> Floats:
    """The rows `rows` (ascending) of `matrix`, prepared."""
    prepared = np.empty((len(rows), matrix.shape[1]), np.float32)
    step = block_rows(matrix.shape[1])
    # As far as one block at a time: the system maps the neighbours of what is read too, up to 64 KB of them.
    bounds = np.searchsorted(rows, np.arange(0, matrix.shape[0] + step, step))
    for begin, end in pairwise(bounds):
        if part := rows[begin:end].tolist():
            prepared[begin:end] = prepare(matrix[rows[begin:end]], metric, partial(_gathered_name, keys, part))
            forget(matrix, part[0], part[-1] + 1)
    return prepared


def _gathered_name(keys: Any, rows: Sequence[int], place: int) -> str:
    return stored_name(keys, rows[place])(0)


def forget(matrix: Any, start: int, stop: int) -> None:
    """Take the mapped files behind these rows out of the process: what was read stays in the system's cache only."""
    for part in getattr(matrix, "stored", (matrix,)):
        for row in range(start, stop, max(1, (stop - start) // 8)):
            base = part[row : row + 1]
            while base is not None and not isinstance(base, mmap.mmap):
                base = getattr(base, "base", None)
            if base is not None and hasattr(base, "madvise"):
                base.madvise(mmap.MADV_DONTNEED)
