"""The only place that imports faiss: lazily, and with its global thread count under control."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from coldpress.errors import ColdpressError


def load_faiss() -> Any:
    """The faiss module; absent or broken, an error that says what to install."""
    try:
        import faiss
    except ImportError as error:
        raise ColdpressError(
            f"similarity search needs FAISS, which cannot be imported ({error}): pip install faiss-cpu"
        ) from error
    return faiss


@contextmanager
def faiss_threads(threads: int | None) -> Iterator[Any]:
    """Give faiss `threads` OpenMP threads (None: as it is) and put its setting back afterwards.

    The setting belongs to the OpenMP runtime of the calling thread and is shared with whoever else uses that
    runtime, so it is never left changed.
    """
    faiss = load_faiss()
    if threads is None:
        yield faiss
        return
    if threads < 1:
        raise ColdpressError(f"threads is {threads}, expected at least 1: leave it out to use what faiss has")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)


def inner(faiss: Any, index: Any) -> Any | None:
    """The index that `index` searches in first; None where it does so itself."""
    if isinstance(index, faiss.IndexRefine):
        return faiss.downcast_index(index.base_index)
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.downcast_index(index.index)
    return None


def innermost(faiss: Any, index: Any) -> Any:
    """The index that holds lists or a graph, below refinements and transformations."""
    while (below := inner(faiss, index)) is not None:
        index = below
    return index


def search_parameters(faiss: Any, index: Any, effort: int, k_factor: float, selector: Any) -> Any:
    """Parameters for one search: lists to probe or candidates of the graph, candidates a hit, rows that may be found.

    Always given with the search, never set on the index: searches of several threads do not meet.
    """
    below = inner(faiss, index)
    deeper = None if below is None else search_parameters(faiss, below, effort, k_factor, selector)
    if isinstance(index, faiss.IndexRefine):
        return faiss.IndexRefineSearchParameters(k_factor=k_factor, base_index_params=deeper)
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=deeper)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=effort, sel=selector)
    if isinstance(index, faiss.IndexIVF):
        rabitq = isinstance(index, (faiss.IndexIVFRaBitQ, faiss.IndexIVFRaBitQFastScan))
        kind = faiss.IVFRaBitQSearchParameters if rabitq else faiss.SearchParametersIVF
        return kind(nprobe=effort, sel=selector)
    return None if selector is None else faiss.SearchParameters(sel=selector)


def row_bytes(faiss: Any, index: Any) -> float:
    """Bytes that every vector adds to an index."""
    if isinstance(index, faiss.IndexRefine):
        below = row_bytes(faiss, faiss.downcast_index(index.base_index))
        return below + row_bytes(faiss, faiss.downcast_index(index.refine_index))
    if isinstance(index, faiss.IndexPreTransform):
        return row_bytes(faiss, faiss.downcast_index(index.index))
    if isinstance(index, faiss.IndexHNSW):
        links = index.hnsw.nb_neighbors(0) + index.hnsw.nb_neighbors(1) / (index.hnsw.nb_neighbors(1) - 1)
        return float(4 * links + 12) + row_bytes(faiss, faiss.downcast_index(index.storage))
    ids = 16 if isinstance(index, faiss.IndexIVF) else 0  # id and direct map
    return float(index.code_size) + ids


def reserve(faiss: Any, index: Any, rows: int) -> None:
    """Let the arrays of an empty index have their final size now: growing, they would take twice as much at times."""
    parts = [faiss.downcast_index(index.refine_index)] if isinstance(index, faiss.IndexRefine) else []
    last = innermost(faiss, index)
    if isinstance(last, faiss.IndexHNSW):
        last.hnsw.neighbors.resize(int(rows * 1.03 * last.hnsw.nb_neighbors(0)))
        last.hnsw.neighbors.resize(0)
        parts.append(faiss.downcast_index(last.storage))
    elif not isinstance(last, faiss.IndexIVF):
        parts.append(last)
    for part in parts:
        if isinstance(part, faiss.IndexFlatCodes):
            part.codes.resize(rows * part.code_size)
            part.codes.resize(0)
