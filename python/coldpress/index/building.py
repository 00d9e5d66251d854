"""From a store, or several, to the contents of an index: forecast, build, certify."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from coldpress.errors import ColdpressError
from coldpress.index._faiss import faiss_threads
from coldpress.index.build import Fill, Say, build_index, usable_memory
from coldpress.index.contents import Contents
from coldpress.index.joined import JoinedStore
from coldpress.index.measure import certify
from coldpress.index.planning import plan_of_store
from coldpress.index.rows import rows_of_store
from coldpress.index.space import space_of
from coldpress.index.vectors import Metric

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

logger = logging.getLogger(__name__)


def build_contents(
    store: EmbeddingStore | JoinedStore,
    *,
    kind: str,
    recall: float,
    memory: int | None,
    factory: str | None,
    metric: Metric,
    output: str | None,
    threads: int | None,
    seed: int,
    progress: Say | None,
    fill: Fill | None = None,
    spared: int = 0,
) -> Contents:
    """Index every row; the arguments are those of `VectorIndex.build`, and `fill` is as of `build_index`.

    `spared` bytes of the memory are for what `fill` holds.
    """
    if not 0 < recall <= 1:
        raise ColdpressError(f"recall is {recall}, expected more than 0 and at most 1")
    if (budget := usable_memory() if memory is None else memory) is not None:
        budget -= spared
    plan = plan_of_store(store, kind=kind, factory=factory, memory=budget, metric=metric, output=output)
    logger.info("forecast: %s", plan)
    name = output or store.default_output
    rows = store.rows() if isinstance(store, JoinedStore) else rows_of_store(store)
    matrix = store.bits(name) if plan.kind == "binary" else store.output(name)
    with faiss_threads(threads) as faiss:
        say = progress or (lambda _: None)
        built = build_index(faiss, matrix, plan, metric, store.keys, seed=seed, target=recall, say=say, fill=fill)
        settings, certificate = certify(faiss, built, plan, target=recall, seed=seed)
    logger.info("indexed %d rows as %s: %s", plan.rows, plan.kind, certificate)
    return Contents(
        index=built.index,
        rows=rows,
        space=space_of(store, name, metric),
        kind=plan.kind,
        settings=settings,
        setting=built.setting,
        certificate=certificate,
        trained=built.trained,
        removed=np.zeros(plan.rows, np.bool_),
    )
