"""What faiss-gpu takes over where it is installed instead of faiss-cpu: clustering, sorting rows into lists, searching.

Never run on a GPU yet: tests put an index of the CPU in the place of each one there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from coldpress.errors import ColdpressError
from coldpress.index._faiss import innermost
from coldpress.index.plan import shown
from coldpress.index.searching import TIE_SLACK, ordered
from coldpress.index.signs import SignIndex
from coldpress.index.vectors import Floats, Rows
from coldpress.store.blocks import block_rows

MOST_NEIGHBOURS = 2048 - TIE_SLACK
"""Of a search on a GPU: faiss selects no more there."""


def gpu_count(faiss: Any) -> int:
    """GPUs that this faiss can use."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


@contextmanager
def clustering_on_gpus(faiss: Any, index: Any) -> Iterator[None]:
    """While this lasts, an index with lists is trained on all GPUs that there are."""
    last = innermost(faiss, index)
    if not (isinstance(last, faiss.IndexIVF) and gpu_count(faiss)):
        yield
        return
    assigner = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(last.d))
    last.clustering_index = assigner  # a bare pointer: the name keeps it alive
    try:
        yield
    finally:
        last.clustering_index = None


@contextmanager
def assigning_on_gpus(faiss: Any, index: Any) -> Iterator[None]:
    """While this lasts, the lists of rows that are added to a trained index are found on all GPUs that there are."""
    last = innermost(faiss, index)
    quantizer = faiss.downcast_index(last.quantizer) if isinstance(last, faiss.IndexIVF) else None
    if not (isinstance(quantizer, faiss.IndexFlat) and gpu_count(faiss)):
        yield
        return
    on_gpus = faiss.index_cpu_to_all_gpus(quantizer)
    last.quantizer = on_gpus  # bare pointers again; the index still owns the one on the CPU
    try:
        yield
    finally:
        last.quantizer = quantizer


class RowsOnGpus:
    """All rows of an index on GPUs, where every one is compared with each query.

    Each GPU has a run of rows, in float32 where the index keeps them so, else in float16. What it finds is scored again
    as the index keeps it: scores and order are those of a comparison on the CPU.

    Parameters
    ----------
    index : of faiss; it stays as it is.

    Raises
    ------
    ColdpressError
        Signs, no faiss-gpu, no GPU, or too little memory there.
    """

    def __init__(self, faiss: Any, index: Any) -> None:
        if isinstance(index, SignIndex):
            raise ColdpressError("an index of signs (--dtype binary) is searched on the CPU alone: leave it there")
        self._index, self._turn = index, threading.Lock()
        full = isinstance(innermost(faiss, index), faiss.IndexFlat)
        self._parts = _empty_parts(faiss, index.d, half=not full)
        share, step = -(-index.ntotal // len(self._parts)), block_rows(index.d)
        self._firsts = [number * share for number in range(len(self._parts))]
        try:
            for first, part in zip(self._firsts, self._parts, strict=True):
                end = min(first + share, index.ntotal)
                for start in range(first, end, step):
                    part.add(index.reconstruct_batch(np.arange(start, min(start + step, end))))
        except RuntimeError as error:
            size = shown(index.ntotal * index.d * (4 if full else 2))
            raise ColdpressError(
                f"{index.ntotal:,} vectors take {size} of the memory of the GPUs, which have no room for them "
                f"({str(error).splitlines()[0]}): search on the CPU"
            ) from error

    def search(self, queries: Floats, k: int) -> tuple[Floats, Rows]:
        """Scores and rows, both (N, k or fewer where there are fewer), by falling score and rising row."""
        k = min(k, int(self._index.ntotal))
        if not (len(queries) and k):
            return np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        with self._turn:  # the GPU's memory for intermediate results has one user at a time
            found = [
                part.search(queries, min(k + TIE_SLACK, part.ntotal))[1] + first
                for first, part in zip(self._firsts, self._parts, strict=True)
                if part.ntotal
            ]
        rows = np.concatenate(found, axis=1)
        scores = np.empty(rows.shape, np.float32)
        step = max(1, block_rows(self._index.d) // rows.shape[1])
        for start in range(0, len(queries), step):
            some = rows[start : start + step]
            kept = self._index.reconstruct_batch(some.ravel()).reshape(*some.shape, -1)
            scores[start : start + step] = np.einsum("qkd,qd->qk", kept, queries[start : start + step])
        return ordered(scores, rows, k)


def _empty_parts(faiss: Any, dim: int, *, half: bool) -> Sequence[Any]:
    """An index for inner products on each GPU."""
    if not (count := gpu_count(faiss)):
        if not hasattr(faiss, "StandardGpuResources"):
            raise ColdpressError(
                "searching on a GPU needs faiss-gpu in place of faiss-cpu: pip uninstall faiss-cpu, install faiss-gpu"
            )
        raise ColdpressError("searching on a GPU needs one, and faiss sees none: leave the index on the CPU")
    parts = []
    for device in range(count):
        config = faiss.GpuIndexFlatConfig()
        config.device, config.useFloat16 = device, half
        parts.append(faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), dim, config))
    return parts
