"""One pass over a store: its moments, and rows of it drawn at random."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.drift.moments import Moments, MomentSums
from coldpress.errors import ColdpressError
from coldpress.probes.features import checked
from coldpress.store.blocks import block_rows

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

SAMPLE = 4096
"""Rows that are tested, of each side, at most: 6 MB at 384 dimensions, and a test takes 0.2 s."""
TUNED = 256
"""Rows of the reference beside these, at most a fifth of it, that the kernel is fitted to."""
MIN_REFERENCE = 50
MIN_NEW = 10


@dataclass(frozen=True, eq=False, slots=True)
class Pass:
    """What one pass over N rows leaves: their `moments`, and the vectors (n, D) of the rows that were drawn."""

    moments: Moments
    drawn: Floats


def matrix_of(store: EmbeddingStore, output: str | None) -> Any:
    """The vectors of an output of a store, by default its first."""
    if output is not None and output in store.ragged:
        raise ColdpressError(f"{store.path}: output {output!r} has a matrix an item: name one with a vector an item")
    return store.embeddings if output is None else store.output(output)


def blocks_of(store: EmbeddingStore, output: str | None, most: int | None = None) -> Iterator[tuple[int, Floats]]:
    """All rows in order, as float32 and finite, and the number of the first of each block.

    Raises
    ------
    ColdpressError
        For a row with NaN or Inf, which only a store of another writer holds.
    """
    matrix = matrix_of(store, output)
    step = min(block_rows(int(matrix.shape[1])), most or len(matrix))
    for start in range(0, len(matrix), step):
        part = matrix[start : start + step]
        yield start, checked(part, np.float32, partial(_named, store, start))
        _release(part)


def draw(count: int, most: int, seed: int) -> Rows:
    """Numbers of at most so many of `count` rows, in random order."""
    return np.random.default_rng(seed).choice(count, min(most, count), replace=False)


def read_pass(store: EmbeddingStore, output: str | None, rows: Rows) -> Pass:
    """Read a store once, and keep `rows` in their order."""
    order = np.argsort(rows)
    ascending = rows[order]
    dim = int(matrix_of(store, output).shape[1])
    sums, drawn = MomentSums(dim), np.empty((len(rows), dim), np.float32)
    for start, block in blocks_of(store, output):
        sums.add(block)
        first, last = np.searchsorted(ascending, (start, start + len(block)))
        drawn[order[first:last]] = block[ascending[first:last] - start]
    return Pass(sums.moments(), drawn)


def read_rows(store: EmbeddingStore, output: str | None, rows: Rows) -> Floats:
    """Some rows in their order, as float32 and finite; errors as from :func:`blocks_of`."""
    order = np.argsort(rows)
    found = np.asarray(matrix_of(store, output)[rows[order]], np.float32)[np.argsort(order)]
    return checked(found, np.float32, lambda place: _named(store, 0, int(rows[place])))


def _release(part: Any) -> None:
    """Let go of the pages of a mapped file: they would count as memory of the process until others need it."""
    while isinstance(part, np.ndarray):
        part = part.base
    if isinstance(part, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        part.madvise(mmap.MADV_DONTNEED)


def _named(store: EmbeddingStore, start: int, row: int) -> str:
    return f"{store.path}: vector {str(store.keys[start + row])!r} (row {start + row})"
