"""Certificates: recall and latency of an index that was built, or that has changed since."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from coldpress.index._faiss import faiss_threads
from coldpress.index.build import Built, kept_scores, tuned
from coldpress.index.contents import Contents
from coldpress.index.plan import IndexPlan
from coldpress.index.recall import NEIGHBOURS, ExactNeighbours, RecallCertificate, no_neighbours
from coldpress.index.searching import TIE_SLACK, Allowed, nearest
from coldpress.index.signs import SignIndex
from coldpress.index.tuning import Setting
from coldpress.index.vectors import Floats, Rows
from coldpress.store.blocks import block_rows

LATENCY_QUERIES = 200
QUERIES_AFTER_CHANGES = 200
"""Each is compared with every row: 10 s for 5 million of them."""


def certify(
    faiss: Any, built: Built, plan: IndexPlan, *, target: float, seed: int
) -> tuple[dict[str, Any], RecallCertificate]:
    """Settings and certificate of a new index; the queries that chose the setting are not asked again."""
    index, exact = built.index, built.exact
    asked = exact.part(slice(1, None, 2)) if len(exact.queries) > 1 else exact
    queries = asked.queries if len(asked.queries) else _some_vectors(index)
    p50, p99 = latencies_ms(faiss, index, queries, built.setting, None)
    at_1, at_10 = _recall(faiss, index, asked, built.setting, None)
    certificate = RecallCertificate(
        recall_at_1=at_1,
        recall_at_10=at_10,
        target=target,
        queries=len(asked.queries),
        reference="store",
        latency_p50_ms=p50,
        latency_p99_ms=p99,
        bytes_per_vector=round(plan.index_bytes / plan.rows, 1),
        build_bytes=built.peak_bytes,
        forecast_bytes=plan.build_bytes,
    )
    settings: dict[str, Any] = {"recall_at_10": at_10}
    if plan.kind not in ("exact", "binary"):
        settings |= {"recall_target": target, "recall_queries": len(asked.queries), "seed": seed}
    if plan.kind == "hnsw":
        settings["ef_search"] = max(built.setting.effort, NEIGHBOURS + TIE_SLACK)
    elif plan.nlist:
        settings |= {"nlist": plan.nlist, "nprobe": built.setting.effort, "training_rows": plan.training_rows}
        settings["k_factor"] = built.setting.k_factor
    return settings | ({"factory": plan.factory} if plan.factory else {}), certificate


def measure_again(faiss: Any, contents: Contents) -> None:
    """Certify an index that has changed, against the vectors as it keeps them: the store is elsewhere.

    Where the recall has fallen below its target, searches work harder from now on.
    """
    index, live = contents.index, np.flatnonzero(~contents.removed)
    allowed, old, contents.stale = contents.allowed(None), contents.certificate, False
    if not len(live):
        contents.certificate = replace(old, recall_at_1=None, recall_at_10=None, queries=0, reference="index")
        return
    asked = np.sort(np.random.default_rng(len(live)).choice(live, min(QUERIES_AFTER_CHANGES, len(live)), replace=False))
    exact = no_neighbours(contents.vectors(asked), asked)
    if not isinstance(index, SignIndex):
        for start in range(0, len(live), block_rows(index.d)):
            rows = live[start : start + block_rows(index.d)]
            exact.add(faiss, rows, contents.vectors(rows))
    at_1, at_10 = _recall(faiss, index, exact, contents.setting, allowed)
    if at_10 is not None and at_10 < old.target:
        setting = tuned(faiss, index, exact, old.target, allowed)
        contents.setting = Setting(max(setting.effort, contents.setting.effort), setting.k_factor)
        exact = exact.part(slice(1, None, 2))
        at_1, at_10 = _recall(faiss, index, exact, contents.setting, allowed)
    p50, p99 = latencies_ms(faiss, index, exact.queries, contents.setting, allowed)
    contents.certificate = replace(
        old,
        recall_at_1=at_1,
        recall_at_10=at_10,
        queries=len(exact.queries),
        reference="index",
        latency_p50_ms=p50,
        latency_p99_ms=p99,
    )


def latencies_ms(
    faiss: Any, index: Any, queries: Floats, setting: Setting, allowed: Allowed | None
) -> tuple[float, float]:
    """Median and 99th percentile of searches for one query and 10 neighbours, on one thread."""
    times = []
    with faiss_threads(1):
        for number in range(-min(20, len(queries)), min(LATENCY_QUERIES, len(queries))):  # the first ones warm up
            query = queries[max(0, number)][None]
            start = time.perf_counter()
            nearest(faiss, index, query, NEIGHBOURS, setting, allowed)
            if number >= 0:
                times.append(1e3 * (time.perf_counter() - start))
    return round(float(np.percentile(times, 50)), 4), round(float(np.percentile(times, 99)), 4)


def _recall(
    faiss: Any, index: Any, asked: ExactNeighbours, setting: Setting, allowed: Allowed | None
) -> tuple[float | None, float | None]:
    if isinstance(index, SignIndex):
        return None, None
    found = nearest(faiss, index, asked.queries, NEIGHBOURS + 1, setting, allowed)
    kept = kept_scores(index, asked)
    shares = [asked.recall(*found, at, kept) for at in (1, NEIGHBOURS)]
    at_1, at_10 = (round(float(share.mean()), 6) if len(share) else 1.0 for share in shares)
    return at_1, at_10


def _some_vectors(index: Any) -> Floats:
    rows: Rows = np.arange(min(LATENCY_QUERIES, index.ntotal), dtype=np.int64)
    return np.asarray(index.reconstruct_batch(rows), np.float32)
