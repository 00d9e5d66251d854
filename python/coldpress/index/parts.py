"""An index in parts: whoever adds some of the rows needs the training alone, and parts go together in row order.

Inverted lists of parts that were added to the same training are those of one index, cut: put together, they find the
same rows with the same scores as if one process had added them all. Graphs cannot be put together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.index._faiss import faiss_threads, reserve
from coldpress.index.joined import JoinedStore, LateKeys
from coldpress.index.recall import ExactNeighbours, no_neighbours
from coldpress.index.vectors import Floats, Metric, Rows, prepared_blocks
from coldpress.store import EmbeddingStore
from coldpress.store.blocks import block_rows

PART_BLOCKS = 4
"""Blocks of a part: 87,000 rows of width 384, 72 MB as inverted lists, for as many seconds as there are 100 M rows."""


@dataclass(frozen=True)
class PartTask:
    """What a worker needs for any part: picklable.

    Attributes
    ----------
    stores : location and rows of each; what has been appended to them since is left out.
    output, metric : of the index.
    trained : bytes of the index before its first row.
    queries, own_rows : (Q, D) and (Q,), whose exact neighbours are wanted.
    """

    stores: tuple[tuple[str, int], ...]
    output: str
    metric: Metric
    trained: npt.NDArray[np.uint8]
    queries: Floats
    own_rows: Rows


@dataclass(frozen=True)
class RowRange:
    """Rows `start` to `stop` of all stores."""

    start: int
    stop: int

    def __str__(self) -> str:
        return f"rows {self.start:,} to {self.stop:,}"


@dataclass(frozen=True)
class Part:
    """Bytes of the index of some rows, and of each query the scores and rows (Q, 10) nearest among them."""

    rows: RowRange
    index: npt.NDArray[np.uint8]
    scores: Floats
    neighbours: Rows


def mergeable(faiss: Any, index: Any) -> bool:
    """Whether parts of such an index can be put together: inverted lists, with a second look at the best or without."""
    below = faiss.downcast_index(index.base_index) if isinstance(index, faiss.IndexRefine) else index
    return isinstance(below, faiss.IndexIVF)


def row_ranges(rows: int, dim: int, workers: int, part_rows: int | None) -> Iterator[RowRange]:
    """Parts of whole blocks, at least one for each worker where there are so many blocks."""
    block = block_rows(dim)
    step = part_rows or block * max(1, min(PART_BLOCKS, rows // (block * workers)))
    return (RowRange(start, min(start + step, rows)) for start in range(0, rows, step))


def part_worker(_device: str, threads: int, task: PartTask) -> Callable[[RowRange, object], Part]:
    """What adds parts, in a process of its own."""
    store = JoinedStore([EmbeddingStore(location) for location, _ in task.stores], [rows for _, rows in task.stores])
    matrix = store.output(task.output)

    def work(rows: RowRange, _known: object = None) -> Part:
        with faiss_threads(threads) as faiss:
            index = faiss.deserialize_index(task.trained)
            reserve(faiss, index, rows.stop - rows.start)
            exact = no_neighbours(task.queries, task.own_rows)
            for start, block in prepared_blocks(matrix, task.metric, LateKeys(store), rows.start, rows.stop):
                index.add(block)
                exact.add(faiss, start, block)
            return Part(rows, np.asarray(faiss.serialize_index(index), np.uint8), exact.scores, exact.rows)

    return work


def put_together(faiss: Any, index: Any, exact: ExactNeighbours, part: Part) -> None:
    """Append a part: its rows follow those that `index` has."""
    added = faiss.deserialize_index(part.index)
    first = int(index.ntotal)
    assert first == part.rows.start
    if isinstance(index, faiss.IndexRefine):
        for name, offset in (("base_index", first), ("refine_index", 0)):
            faiss.downcast_index(getattr(index, name)).merge_from(faiss.downcast_index(getattr(added, name)), offset)
        index.ntotal = first + part.rows.stop - part.rows.start
    else:
        index.merge_from(added, first)
    exact.include(part.scores, part.neighbours)


def task_of(
    stores: Sequence[EmbeddingStore], output: str, metric: Metric, trained: Any, exact: ExactNeighbours
) -> PartTask:
    """The task of filling an index from stores."""
    paths = [store.path.resolve() if isinstance(store.path, Path) else store.path for store in stores]
    places = tuple((str(path), len(store)) for path, store in zip(paths, stores, strict=True))
    return PartTask(places, output, metric, trained, exact.queries, exact.own_rows)
