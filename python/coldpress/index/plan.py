"""Which index suits so many vectors, and how much memory it takes: pure functions, asked before anything is read.

What was measured on two cores (clustered vectors x 384 as hard as those of MiniLM, one thread, recall@10 0.95; p50 of
single queries): 12,000 rows HNSW 0.02 ms, IVF 0.04 ms; 35,000 0.03 and 0.07 ms; 200,000 0.15 and 0.13 ms, of which
HNSW takes twice the memory and half as long again to build. So the graph is for the sizes between, and inverted lists
of 4-bit codes with a second look at the best (`Refine`) for all beyond. RaBitQ was slower than those codes at each size
(0.16 against 0.08 ms in batches over 200,000 rows) and is there by its factory string.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Literal, cast

from coldpress.errors import ColdpressError
from coldpress.index.vectors import Metric
from coldpress.store.blocks import BLOCK_BYTES

Kind = Literal["exact", "hnsw", "ivf", "binary", "factory"]

EXACT_BELOW = 10_000  # rows; below, brute force answers in about a millisecond and there is nothing to tune
HNSW_BELOW = 200_000
MIN_IVF_ROWS = 100
POINTS_PER_LIST = 64  # of training sample; faiss asks for 39 at least
MIN_POINTS_PER_LIST = 39
MAX_TRAINING_BYTES = 256 << 20
MAX_QUERIES = 1000
HNSW_LINKS = 32
ID_BYTES = 8

_HNSW_ROW_BYTES = 4 * (2 * HNSW_LINKS + HNSW_LINKS / (HNSW_LINKS - 1)) + 4 + 8  # links, level, offset
_WORKING_BYTES = 5 * BLOCK_BYTES  # a block as stored, prepared, and in faiss; the scores of the queries
_REFINE_BYTES = {"SQfp16": 2, "SQ8": 1}  # a dimension
_UNITS = (("GB", 1 << 30), ("MB", 1 << 20))


@dataclass(frozen=True)
class IndexPlan:
    """What will be built, and the memory it takes; all bytes are on top of what the process has.

    Attributes
    ----------
    kind : {"exact", "hnsw", "ivf", "binary", "factory"}
    factory : how faiss calls it; empty for ``"binary"``.
    nlist : inverted lists; 0 where there are none.
    training_rows, query_rows : held in memory to train with, and to measure recall with.
    index_bytes : the finished index, also on disk.
    build_bytes : peak of the build.
    open_bytes : of the opened index what cannot be mapped: the keys.
    """

    kind: Kind
    factory: str
    rows: int
    dim: int
    nlist: int
    training_rows: int
    query_rows: int
    index_bytes: int
    build_bytes: int
    open_bytes: int


def plan_index(
    rows: int,
    dim: int,
    *,
    kind: str = "auto",
    metric: Metric = "cosine",
    dtype: str = "float16",
    memory: int | None = None,
    key_bytes: float = 32,
) -> IndexPlan:
    """The first choice for so many rows that fits.

    Parameters
    ----------
    rows, dim : N, D.
    kind : {"auto", "exact", "hnsw", "ivf"}
    metric, dtype : of the search, of the store.
    memory : int, optional
        Bytes that building may add to the process; None: no limit.
    key_bytes : average length of a key.

    Raises
    ------
    ColdpressError
        Nothing fits, or the store cannot be indexed in this way.
    """
    if dtype == "binary":
        if kind != "auto" or metric != "cosine":
            raise ColdpressError(
                f"the store holds one bit a dimension (binary), which kind {kind!r} with metric {metric!r} cannot "
                "index: leave both at their defaults, or embed with --dtype int8"
            )
        plans = [_planned("binary", "", rows, dim, float(-(-dim // 8)), key_bytes)]
    else:
        plans = [_plan_of(name, refine, rows, dim, memory, key_bytes) for name, refine in _ladder(kind, rows, metric)]
    for plan in plans:
        if memory is None or plan.build_bytes <= memory:
            return plan
    raise _refusal(plans[-1], cast(int, memory))


def plan_factory(
    factory: str, row_bytes: float, nlist: int, rows: int, dim: int, *, memory: int | None, key_bytes: float
) -> IndexPlan:
    """The plan for an index of the user's own description, which takes `row_bytes` a vector."""
    plan = _planned("factory", factory, rows, dim, row_bytes, key_bytes, nlist=nlist, training=_sample(rows, dim, None))
    if memory is not None and plan.build_bytes > memory:
        raise _refusal(plan, memory)
    return plan


def subquantizers(dim: int) -> int:
    """Numbers of 4 bits that stand for a vector: one for every 4 dimensions, more for short ones, or as D divides."""
    widths = (4, 3, 5, 2, 6, 7, 8, 1) if dim >= 128 else (2, 3, 1)
    return dim // next(width for width in widths if dim % width == 0)


def shown(num_bytes: float) -> str:
    """Bytes for a message."""
    unit, factor = next((pair for pair in _UNITS if num_bytes >= pair[1]), _UNITS[-1])
    return f"{num_bytes / factor:.1f} {unit}"


def _ladder(kind: str, rows: int, metric: Metric) -> list[tuple[Kind, str]]:
    """Kinds to try, best first."""
    if kind == "ivf" and rows < MIN_IVF_ROWS:
        raise ColdpressError(f"kind 'ivf' needs at least {MIN_IVF_ROWS} rows, got {rows}: use kind='exact'")
    lists: list[tuple[Kind, str]] = [("ivf", "SQfp16"), ("ivf", "SQ8")]
    if kind == "ivf":
        return lists
    if kind != "auto":
        return [(cast(Kind, kind), "")]
    if rows < EXACT_BELOW:
        return [("exact", ""), *(lists if rows >= MIN_IVF_ROWS else [])]
    # A graph follows the longest vectors under the dot product and misses the others.
    return [("hnsw", ""), *lists] if rows < HNSW_BELOW and metric == "cosine" else lists


def _plan_of(kind: Kind, refine: str, rows: int, dim: int, memory: int | None, key_bytes: float) -> IndexPlan:
    if kind == "exact":
        return _planned(kind, "Flat", rows, dim, 4.0 * dim, key_bytes)
    if kind == "hnsw":
        row_bytes = 2 * dim + _HNSW_ROW_BYTES
        return _planned(kind, f"HNSW{HNSW_LINKS},SQfp16", rows, dim, row_bytes, key_bytes)
    training = _sample(rows, dim, memory)
    nlist = max(1, min(4 * isqrt(rows), training // MIN_POINTS_PER_LIST))
    codes = subquantizers(dim)
    row_bytes = (codes + 1) // 2 + ID_BYTES + _REFINE_BYTES[refine] * dim
    factory = f"IVF{nlist},PQ{codes}x4fs,Refine({refine})"
    return _planned(kind, factory, rows, dim, row_bytes, key_bytes, nlist=nlist, training=training)


def _sample(rows: int, dim: int, memory: int | None) -> int:
    """Rows to train on: those that the held-out queries leave, as far as they are needed and memory is there."""
    most = MAX_TRAINING_BYTES if memory is None else min(MAX_TRAINING_BYTES, memory // 8)
    return min(rows - _queries(rows), POINTS_PER_LIST * 4 * isqrt(rows), max(MIN_IVF_ROWS, most // (4 * dim)))


def _queries(rows: int) -> int:
    return min(MAX_QUERIES, rows // 10)


def _planned(
    kind: Kind,
    factory: str,
    rows: int,
    dim: int,
    row_bytes: float,
    key_bytes: float,
    *,
    nlist: int = 0,
    training: int = 0,
) -> IndexPlan:
    """Add up: training comes before the rows, so its sample and they are never there together."""
    index_bytes = int(rows * row_bytes) + 4 * nlist * dim
    keys = int(rows * (key_bytes + 8))
    blocks = min(_WORKING_BYTES, 5 * 4 * rows * dim)
    copies = 3 if kind == "factory" else 2  # of the sample; what is quantised without a second look trains on residuals
    growing = rows * (row_bytes - _kept_bytes(factory, dim)) if nlist else 0  # lists double when they are full
    peak = max(int(index_bytes + growing) + blocks, copies * 4 * training * dim)
    return IndexPlan(
        kind=kind,
        factory=factory,
        rows=rows,
        dim=dim,
        nlist=nlist,
        training_rows=training,
        query_rows=_queries(rows),
        index_bytes=index_bytes,
        build_bytes=peak + keys,
        open_bytes=keys,
    )


def _kept_bytes(factory: str, dim: int) -> int:
    """Of a vector, what is kept beside the lists, in an array that has its final size from the beginning."""
    return next((size * dim for name, size in _REFINE_BYTES.items() if f"Refine({name})" in factory), 0)


def _refusal(plan: IndexPlan, memory: int) -> ColdpressError:
    return ColdpressError(
        f"an index of {plan.rows:,} x {plan.dim} takes {shown(plan.build_bytes)} to build ({plan.factory}), but "
        f"{shown(memory)} of memory may be used: raise memory, embed with --truncate-dim, --pca or --dtype binary, "
        "or index parts of the store on larger machines and merge them"
    )
