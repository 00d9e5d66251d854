"""What is to be planned for: the facts of a store, and of the user's own description of an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from coldpress.errors import ColdpressError
from coldpress.index._faiss import innermost, load_faiss, row_bytes
from coldpress.index.plan import IndexPlan, plan_factory, plan_index
from coldpress.index.vectors import Metric

if TYPE_CHECKING:
    from coldpress.index.joined import JoinedStore
    from coldpress.store import EmbeddingStore

KINDS = ("auto", "exact", "hnsw", "ivf")


def plan_of_store(
    store: EmbeddingStore | JoinedStore,
    *,
    kind: str,
    factory: str | None,
    memory: int | None,
    metric: Metric,
    output: str | None,
) -> IndexPlan:
    """The plan for a store, or an error that says why there is none."""
    if kind not in KINDS:
        raise ColdpressError(f"kind is {kind!r}, expected 'auto', 'exact', 'hnsw' or 'ivf'")
    if metric not in ("cosine", "dot"):
        raise ColdpressError(f"metric is {metric!r}, expected 'cosine' or 'dot'")
    rows, name = len(store), output or store.default_output
    if rows == 0:
        raise ColdpressError("the store holds no vectors, expected at least one: embed something first")
    if name in store.ragged:
        raise ColdpressError(f"output {name!r} has a matrix for every item, expected one vector: index a pooled output")
    if name not in store.outputs:
        raise ColdpressError(f"the store has no output {name!r}, expected one of {', '.join(store.outputs)}")
    dim, key_bytes = store.dims[name], _key_bytes(store)
    if factory is None:
        return plan_index(rows, dim, kind=kind, metric=metric, dtype=store.dtype, memory=memory, key_bytes=key_bytes)
    if kind != "auto" or store.dtype == "binary":
        raise ColdpressError(f"factory {factory!r} replaces kind, and cannot index signs: leave one of them out")
    nlist, num_bytes = _described(factory, dim)
    return plan_factory(factory, num_bytes, nlist, rows, dim, memory=memory, key_bytes=key_bytes)


def _described(factory: str, dim: int) -> tuple[int, float]:
    """Lists and bytes a vector of what a description makes."""
    faiss = load_faiss()
    try:
        index: Any = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        num_bytes = row_bytes(faiss, index)
    except (RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0].rpartition("Error: ")[2]
        raise ColdpressError(
            f"factory is {factory!r}, which faiss cannot make of vectors of width {dim} ({reason}): expected something "
            "such as 'IVF4096,PQ96x4fs,Refine(SQ8)', 'HNSW32,SQ8' or 'IVF1024,SQfp16'"
        ) from error
    return int(getattr(innermost(faiss, index), "nlist", 0)), num_bytes


def _key_bytes(store: EmbeddingStore | JoinedStore) -> float:
    """Average length of a key, of the first rows."""
    first = next((table for table in store.iter_metadata(["key"]) if len(table)), None)
    return 0.0 if first is None else float(pc.mean(pc.binary_length(first.column("key"))).as_py())
