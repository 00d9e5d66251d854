"""From stored vectors to a searchable index, in memory that was forecast: train, add block by block, tune, certify."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coldpress._process import resident_bytes
from coldpress.index._faiss import innermost, reserve
from coldpress.index.gpu import assigning_on_gpus, clustering_on_gpus
from coldpress.index.parts import mergeable
from coldpress.index.plan import MIN_POINTS_PER_LIST, POINTS_PER_LIST, IndexPlan
from coldpress.index.recall import NEIGHBOURS, ExactNeighbours, cautious_mean, no_neighbours, scores_as_kept
from coldpress.index.searching import Allowed, most_effort, nearest
from coldpress.index.signs import SignIndex, empty_signs
from coldpress.index.tuning import CANDIDATE_COST, K_FACTORS, Setting, tune
from coldpress.index.vectors import Floats, Metric, Rows, prepared_blocks, prepared_rows
from coldpress.store.blocks import block_rows

logger = logging.getLogger(__name__)

Say = Callable[[str], None]
"""Told what is being done, for a progress display."""

Fill = Callable[[Any, Any, Any, ExactNeighbours], Iterator[int]]
"""Adds all rows to (faiss, a trained index, its bytes, the neighbours to find), and says after each step how many."""

CLUSTERING_ROUNDS = 10
"""Of k-means; 25 take 2.6 times as long and find 0.002 more of the neighbours (100,000 x 384, 16 of 1,264 lists)."""


@dataclass(frozen=True)
class Built:
    """An index and how it was tuned; `trained` has the bytes of it without rows; None where nothing is trained."""

    index: Any
    trained: Any
    setting: Setting
    exact: ExactNeighbours
    peak_bytes: int


def empty_index(faiss: Any, plan: IndexPlan, seed: int) -> Any:
    """An untrained index as planned."""
    if plan.kind == "binary":
        return empty_signs(faiss, plan.dim)
    index = faiss.index_factory(plan.dim, plan.factory, faiss.METRIC_INNER_PRODUCT)
    last = innermost(faiss, index)
    if isinstance(last, faiss.IndexIVF):
        # Spherical also for "dot": with free centroid lengths the longest centroids would attract every vector.
        last.cp.spherical, last.cp.seed, last.cp.niter = True, seed, CLUSTERING_ROUNDS
        last.cp.min_points_per_centroid = min(last.cp.min_points_per_centroid, MIN_POINTS_PER_LIST)
        last.cp.max_points_per_centroid = max(last.cp.max_points_per_centroid, POINTS_PER_LIST)
    return index


def build_index(
    faiss: Any,
    matrix: Any,
    plan: IndexPlan,
    metric: Metric,
    keys: Any,
    *,
    seed: int,
    target: float,
    say: Say,
    fill: Fill | None = None,
) -> Built:
    """Index every row of `matrix` (N, D): float16, float32 or int8 vectors, or packed signs.

    `fill` adds the rows where parts of the index can be put together; elsewhere, and by default, they are added here.
    """
    start_bytes, peak = resident_bytes(mapped=False), 0

    def taken() -> int:
        return resident_bytes(mapped=False) - start_bytes

    training, questions = sampled_rows(plan, seed)
    index = empty_index(faiss, plan, seed)
    if isinstance(index, SignIndex):
        for start in range(0, plan.rows, block_rows(plan.dim)):
            index.add_bits(np.ascontiguousarray(matrix[start : start + block_rows(plan.dim)]))
        nothing = no_neighbours(np.empty((0, plan.dim), np.float32), questions[:0])
        return Built(index, None, Setting(1, 1), nothing, taken())
    trained = None
    if not index.is_trained:
        say(f"training on {len(training):,} of {plan.rows:,} rows")
        sample = prepared_rows(matrix, training, metric, keys)
        with clustering_on_gpus(faiss, index):
            index.train(sample)
        peak = taken()
        del sample
        trained = np.asarray(faiss.serialize_index(index), np.uint8)
    exact = no_neighbours(prepared_rows(matrix, questions, metric, keys), questions)
    reserve(faiss, index, plan.rows)
    began = time.monotonic()
    spread = fill is not None and mergeable(faiss, index)
    filling = (
        fill(faiss, index, trained, exact) if fill and spread else _fill(faiss, index, exact, matrix, metric, keys)
    )
    for done in filling:
        peak = max(peak, taken())
        left = (plan.rows - done) * (time.monotonic() - began) / done
        say(f"{done:,} of {plan.rows:,} rows, {left:.0f} s left")
    make_retrievable(faiss, index)
    say("tuning the search")
    setting = tuned(faiss, index, exact, target)
    return Built(index, trained, setting, exact, max(peak, taken()))


def _fill(faiss: Any, index: Any, exact: ExactNeighbours, matrix: Any, metric: Metric, keys: Any) -> Iterator[int]:
    """Add all rows in this process."""
    with assigning_on_gpus(faiss, index):
        for start, block in prepared_blocks(matrix, metric, keys):
            index.add(block)
            exact.add(faiss, start, block)
            yield start + len(block)


def sampled_rows(plan: IndexPlan, seed: int) -> tuple[Rows, Rows]:
    """Which rows train and which measure the recall; disjoint and ascending."""
    rng = np.random.default_rng(seed)
    count = plan.training_rows + plan.query_rows
    drawn = rng.permutation(rng.choice(plan.rows, size=count, replace=False, shuffle=False))
    return np.sort(drawn[plan.query_rows :]), np.sort(drawn[: plan.query_rows])


def make_retrievable(faiss: Any, index: Any) -> None:
    """Let lists without a copy of the vectors beside them say which vector a row is: 8 bytes a row, also on disk."""
    last = innermost(faiss, index)
    if isinstance(last, faiss.IndexIVF) and not isinstance(index, faiss.IndexRefine):
        last.make_direct_map()


def tuned(faiss: Any, index: Any, exact: ExactNeighbours, target: float, allowed: Allowed | None = None) -> Setting:
    """How hard to search for the recall that was asked for; every second query has no part in that."""
    most, last = most_effort(faiss, index), innermost(faiss, index)
    refined = isinstance(index, faiss.IndexRefine)
    if most == 1 or len(exact.queries) < 2:
        return Setting(most, K_FACTORS[2] if refined else 1)

    def recall_of(part: ExactNeighbours) -> Callable[[Setting], float]:
        as_kept = kept_scores(index, part)

        def recall(setting: Setting) -> float:
            found = nearest(faiss, index, part.queries, NEIGHBOURS + 1, setting, allowed)
            return cautious_mean(part.recall(*found, NEIGHBOURS, as_kept))

        return recall

    def cost(setting: Setting) -> float:
        codes = setting.effort * index.ntotal / max(1, getattr(last, "nlist", 0)) * index.d / 8
        return float(codes + CANDIDATE_COST * setting.k_factor * NEIGHBOURS * index.d)

    chosen_by, k_factors = recall_of(exact.part(slice(0, None, 2))), K_FACTORS if refined else (1,)
    setting = tune(chosen_by, most=most, k_factors=k_factors, cost=cost, target=target)
    reported = recall_of(exact.part(slice(1, None, 2)))  # which should reach it too
    while setting.effort < most and reported(setting) < target:
        setting = Setting(min(most, setting.effort + max(1, setting.effort // 8)), setting.k_factor)
    return setting


def kept_scores(index: Any, exact: ExactNeighbours) -> Floats:
    """Scores of the true neighbours as the index keeps their vectors; where it cannot say, those of the store."""
    try:
        return scores_as_kept(exact, index.reconstruct_batch)
    except RuntimeError:  # faiss: not of this kind of index
        return exact.scores


def usable_memory() -> int | None:
    """Four fifths of what the machine, or the container, has left; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        left = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit, used = (group / "memory.max").read_text().strip(), (group / "memory.current").read_text()
        left = left if limit == "max" else min(left, int(limit) - int(used))
    except (OSError, ValueError):
        pass
    return left * 4 // 5
