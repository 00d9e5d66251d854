"""`build_index`: an index of one store or several, whose rows worker processes or the actors of a Ray cluster add."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal

from coldpress._process import cores
from coldpress.distributed.cluster import RayCrew
from coldpress.distributed.devices import threads_of
from coldpress.distributed.processes import ProcessCrew
from coldpress.distributed.worker import pack
from coldpress.engine.stages import ordered_map
from coldpress.errors import ColdpressError
from coldpress.index import VectorIndex
from coldpress.index.building import build_contents
from coldpress.index.joined import JoinedStore
from coldpress.index.parts import PART_BLOCKS, part_worker, put_together, row_ranges, task_of
from coldpress.index.vectors import Metric
from coldpress.store import EmbeddingStore
from coldpress.store.blocks import BLOCK_BYTES

logger = logging.getLogger(__name__)

Crewing = Callable[[bytes], Any]


def build_index(
    stores: str | Path | EmbeddingStore | Sequence[str | Path | EmbeddingStore],
    *,
    workers: int | None = None,
    ray: str | None = None,
    kind: Literal["auto", "exact", "hnsw", "ivf"] = "auto",
    recall: float = 0.95,
    memory: int | None = None,
    factory: str | None = None,
    metric: Metric = "cosine",
    output: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    part_rows: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> VectorIndex:
    """Do what :meth:`VectorIndex.build` does, of one store or several, with several workers.

    One process draws the sample, of all stores, and trains; workers add parts of the rows to copies of the empty index,
    and look for the exact neighbours of the held-out queries in them; the inverted lists are put together in the order
    of the rows. However many workers there are, and if some are lost, searches find the same rows with the same scores.
    Exact indices, graphs (up to 200,000 rows), and signs have no lists to put together: one process builds them.

    Parameters
    ----------
    stores : opened, or where they are: directories that every worker sees, or URLs. Of one space; no key is in two.
    workers : processes of this machine, by default one a core, 1: none but this one; with Ray actors, by default as
        many as there is room for.
    ray : address of a cluster, ``auto`` for the one that Ray finds, else a new one on this machine; None: no Ray.
    threads : of each worker; by default an equal share of the cores, with Ray one. Training takes all cores.
    part_rows : rows of a part; by default 128 MB of float32.
    kind, recall, memory, factory, metric, output, seed, progress : as of :meth:`VectorIndex.build`.

    Raises
    ------
    ColdpressError
        As from :meth:`VectorIndex.build`; stores of other outputs or with a key in common; workers lost time and again.
    FingerprintMismatch
        Stores of different spaces.
    MissingExtra
        Ray is not installed.

    Examples
    --------
    >>> index = coldpress.distributed.build_index(["a.store", "b.store"], workers=8)     # doctest: +SKIP
    >>> index.save("both.index")                                                         # doctest: +SKIP
    """
    for name, number in (("workers", workers), ("part_rows", part_rows), ("threads", threads)):
        if number is not None and number < 1:
            raise ColdpressError(f"{name} is {number}, expected at least 1")
    given = [stores] if isinstance(stores, str | Path | EmbeddingStore) else list(stores)
    store = JoinedStore([one if isinstance(one, EmbeddingStore) else EmbeddingStore(one) for one in given])
    count = workers or cores()
    devices = ("cpu",) * count
    crewing: Crewing = partial(ProcessCrew, devices=devices, threads=threads_of(devices, threads), slots=1)
    if ray is not None:
        crewing = partial(RayCrew, address=ray, count=workers, threads=threads or 1, slots=1)
    alone = ray is None and count == 1
    name = output or store.default_output
    whole = 4 * len(store) * store.dims.get(name, 0)
    contents = build_contents(
        store,
        kind=kind,
        recall=recall,
        memory=memory,
        factory=factory,
        metric=metric,
        output=output,
        threads=threads if alone else None,
        seed=seed,
        progress=progress,
        fill=None if alone else partial(_fill, crewing, store, name, metric, part_rows),
        spared=0 if alone else min((2 * count + 2) * PART_BLOCKS * BLOCK_BYTES, whole),
    )
    index = VectorIndex(contents)
    if index.advice:
        logger.warning("%s", index.advice)
    return index


def _fill(
    crewing: Crewing,
    store: JoinedStore,
    output: str,
    metric: Metric,
    part_rows: int | None,
    faiss: Any,
    index: Any,
    trained: Any,
    exact: Any,
) -> Generator[int, None, None]:
    """Have parts added by workers, and put them together; says after each how many rows there are."""
    task = task_of(store.stores, output, metric, trained, exact)
    with crewing(pack(part_worker, task)) as crew:
        ranges = row_ranges(len(store), int(index.d), crew.size, part_rows)
        with closing(ordered_map(lambda rows: crew(rows, _no_content), ranges, crew.slots)) as parts:
            for part in parts:
                put_together(faiss, index, exact, part)
                yield part.rows.stop


def _no_content(_: Sequence[str]) -> Sequence[bool]:
    """Nothing is asked about by those who add rows."""
    return ()
