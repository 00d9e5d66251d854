"""Inverted lists: clustering on a sample, and the smallest `nprobe` that reaches the recall target.

Recall is measured with vectors of the store as queries, which the clustering has not seen, against brute force over
all rows. A query's own row does not count as its neighbour. Half of the queries choose `nprobe`; the recall that is
reported is that of the other half.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np

from coldpress.index.vectors import Floats, Metric, Rows, prepared_blocks, prepared_rows

NEIGHBOURS = 10
MAX_QUERIES = 1000
MIN_ROWS = 100
POINTS_PER_LIST = 64  # of training sample; faiss asks for 39 at least
MIN_POINTS_PER_LIST = 39
MAX_TRAINING_BYTES = 256 << 20


@dataclass(frozen=True)
class IvfPlan:
    """Which rows train the clustering and which measure the recall; disjoint and ascending."""

    nlist: int
    training: Rows
    queries: Rows


def plan_ivf(rows: int, dim: int, *, seed: int) -> IvfPlan:
    """About ``4 * sqrt(rows)`` lists, fewer where the sample that may be held in memory could not train as many."""
    num_queries = min(MAX_QUERIES, rows // 10)
    lists = 4 * isqrt(rows)
    sample = min(rows - num_queries, POINTS_PER_LIST * lists, max(MIN_ROWS, MAX_TRAINING_BYTES // (4 * dim)))
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(rng.choice(rows, size=sample + num_queries, replace=False, shuffle=False))
    nlist = max(1, min(lists, sample // MIN_POINTS_PER_LIST))
    return IvfPlan(nlist, training=np.sort(drawn[num_queries:]), queries=np.sort(drawn[:num_queries]))


@dataclass
class ExactNeighbours:
    """Brute force over a stream of blocks: for each query the `NEIGHBOURS` best scores, its own row left out."""

    queries: Floats
    own_rows: Rows
    scores: Floats

    def add(self, faiss: Any, start: int, block: Floats) -> None:
        """Take the rows of `block`, of which the first is row `start`, into account."""
        k = min(NEIGHBOURS + 1, len(block))
        scores, rows = faiss.knn(self.queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)
        scores[rows + start == self.own_rows[:, None]] = -np.inf
        merged = np.concatenate([self.scores, scores], axis=1)
        self.scores = -np.sort(-merged, axis=1)[:, :NEIGHBOURS]

    def recall(self, scores: Floats, rows: Rows) -> float:
        """Share of the neighbours that (scores, rows), both (Q, 11), have found; equally near ones are as good."""
        valid = (rows >= 0) & (rows != self.own_rows[:, None])
        worst = self.scores[:, -1:]
        near = valid & (scores >= worst - 1e-6 * np.maximum(1, np.abs(worst)))
        return float(np.minimum(near.sum(axis=1), NEIGHBOURS).mean() / NEIGHBOURS)

    def half(self, first: int) -> ExactNeighbours:
        """Every second query, from query `first` on."""
        return ExactNeighbours(self.queries[first::2], self.own_rows[first::2], self.scores[first::2])


def build_ivf(
    faiss: Any, matrix: Any, metric: Metric, keys: Any, *, seed: int, target: float
) -> tuple[Any, dict[str, Any]]:
    """An IVFFlat index over `matrix` (N, D) and the settings it was built and tuned with."""
    rows, dim = matrix.shape
    plan = plan_ivf(rows, dim, seed=seed)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, plan.nlist, faiss.METRIC_INNER_PRODUCT)
    # Spherical also for "dot": with free centroid lengths the longest centroids would attract every vector.
    index.cp.spherical = True
    index.cp.seed = seed
    index.cp.max_points_per_centroid = max(index.cp.max_points_per_centroid, POINTS_PER_LIST)
    index.train(prepared_rows(matrix, plan.training, metric, keys))

    queries = prepared_rows(matrix, plan.queries, metric, keys)
    exact = ExactNeighbours(queries, plan.queries, np.empty((len(queries), 0), np.float32))
    for start, block in prepared_blocks(matrix, metric, keys):
        index.add(block)
        exact.add(faiss, start, block)
    index.make_direct_map()  # row -> vector for search_key: 8 bytes a row, also in the file
    index.nprobe, recall = tune_nprobe(faiss, index, exact, target)
    return index, {
        "nlist": plan.nlist,
        "nprobe": index.nprobe,
        "recall_at_10": round(recall, 6),
        "recall_target": target,
        "recall_queries": len(exact.half(1).queries),
        "training_rows": len(plan.training),
        "seed": seed,
    }


def tune_nprobe(faiss: Any, index: Any, exact: ExactNeighbours, target: float) -> tuple[int, float]:
    """The smallest nprobe that reaches `target` on one half of the queries, and its recall on the other half.

    More lists can only find more, so bisection applies. Where the other half falls short, nprobe grows until it does
    not; all lists together are exact, so this ends.
    """
    chosen_by, reported_on = exact.half(0), exact.half(1)

    def recall(part: ExactNeighbours, nprobe: int) -> float:
        parameters = faiss.SearchParametersIVF(nprobe=nprobe)
        return part.recall(*index.search(part.queries, NEIGHBOURS + 1, params=parameters))

    low, high = 0, 1
    while high < index.nlist and recall(chosen_by, high) < target:
        low, high = high, min(2 * high, index.nlist)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if recall(chosen_by, middle) < target else (low, middle)
    nprobe = high
    while (reached := recall(reported_on, nprobe)) < target and nprobe < index.nlist:
        nprobe = min(nprobe + max(1, nprobe // 8), index.nlist)
    return nprobe, reached
