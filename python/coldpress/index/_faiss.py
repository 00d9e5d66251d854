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
