"""From stored vectors to what scikit-learn takes: one dtype, finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError

F = TypeVar("F", np.float32, np.float64)

BLOCK_BYTES = 32 << 20  # of float32 per block


def block_rows(dim: int) -> int:
    """Rows of width `dim` in one block."""
    return max(1, BLOCK_BYTES // (4 * dim))


def checked(vectors: npt.ArrayLike, dtype: type[F], name: Callable[[int], str]) -> npt.NDArray[F]:
    """`vectors` (N, D) as `dtype`; a row that is not finite raises, called `name` of its position."""
    x = np.ascontiguousarray(vectors, dtype=dtype)
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise ColdpressError(f"{name(row)} holds NaN or Inf, expected finite numbers: remove it or embed it again")
    return x


def gather(store: Any, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The vectors of `rows` (ascending) of a store, (N, D) float64, read block by block."""
    matrix, step = store.embeddings, block_rows(store.dim)
    x = np.empty((len(rows), store.dim), dtype=np.float64)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        x[start : start + step] = checked(matrix[part], np.float32, _stored_name(store.keys, part))
    return x


def _stored_name(keys: Any, rows: npt.NDArray[np.int64]) -> Callable[[int], str]:
    return lambda i: f"stored vector {str(keys[rows[i]])!r} (row {rows[i]})"
