"""Vectors of many items by output, pooled ones and those of every token alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from coldpress.types import Ragged, Rows

Vectors = dict[str, Rows]


def joined(parts: Sequence[Rows]) -> Rows:
    """The items of all parts, of one kind and at least one, in order."""
    if isinstance(parts[0], Ragged):
        ragged = cast(Sequence[Ragged], parts)
        return Ragged(np.concatenate([p.rows for p in ragged]), np.concatenate([p.counts for p in ragged]))
    return np.concatenate(cast(Sequence[npt.NDArray[np.float32]], parts))


def rows_of(vectors: Rows) -> npt.NDArray[np.float32]:
    """The vectors (N, D), or (T, D) of all tokens."""
    return vectors.rows if isinstance(vectors, Ragged) else vectors


def first_pooled(vectors: Mapping[str, Rows]) -> str:
    """The output that stands for all: the first with a vector an item, if there is one."""
    return next((name for name, rows in vectors.items() if not isinstance(rows, Ragged)), next(iter(vectors)))


def finite_rows(vectors: Mapping[str, Rows]) -> npt.NDArray[np.bool_]:
    """Say of each item whether every output of it is finite."""
    return np.asarray(np.logical_and.reduce([_finite(rows) for rows in vectors.values()]), dtype=np.bool_)


def _finite(rows: Rows) -> npt.NDArray[np.bool_]:
    finite = np.isfinite(rows_of(rows)).all(axis=1)
    if not isinstance(rows, Ragged):
        return np.asarray(finite)
    bad = np.concatenate([[0], np.cumsum(~finite)])
    return np.asarray(bad[rows.ends] == bad[rows.ends - rows.counts])
