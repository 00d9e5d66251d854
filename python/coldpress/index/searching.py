"""One search: rows without holes, ties in row order, only among the rows that may be found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.index._faiss import innermost, search_parameters
from coldpress.index.plan import EXACT_BELOW
from coldpress.index.signs import SignIndex
from coldpress.index.tuning import Setting
from coldpress.index.vectors import Floats, Rows
from coldpress.store.blocks import block_rows

CONFIRMED_BELOW = 0.9
"""Where fewer of the rows may be found, an answer is tested by working harder: those rows may lie anywhere."""

MOST_CANDIDATES = 512  # looked at again for each neighbour
TIE_SLACK = 16  # further neighbours fetched so that rows of equal score at the k-th place are cut in row order


@dataclass(frozen=True, eq=False)
class Allowed:
    """The rows that may be found: those that are not removed and meet the conditions."""

    mask: npt.NDArray[np.bool_]

    @cached_property
    def rows(self) -> Rows:
        """Their numbers, ascending."""
        return np.flatnonzero(self.mask)

    @cached_property
    def bits(self) -> npt.NDArray[np.uint8]:
        """One bit a row, as faiss reads them."""
        return np.packbits(self.mask, bitorder="little")


def nearest(
    faiss: Any, index: Any, queries: Floats, k: int, setting: Setting, allowed: Allowed | None = None
) -> tuple[Floats, Rows]:
    """Scores and rows, both (N, k or fewer where fewer may be found), by falling score and rising row.

    The fewer rows may be found, the harder the search works, until working twice as hard hardly changes the answer:
    the nearest lists, or the way through a graph, may hold none of them. Few enough are all compared instead.
    """
    count = int(index.ntotal) if allowed is None else len(allowed.rows)
    k = min(k, count)
    if k == 0:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    if isinstance(index, SignIndex):
        return ordered(*index.search(queries, min(k + TIE_SLACK, count), None if allowed is None else allowed.rows), k)
    if allowed is not None and count < EXACT_BELOW:
        return ordered(*compare_all(faiss, index, queries, min(k + TIE_SLACK, count), allowed.rows), k)
    if isinstance(innermost(faiss, index), faiss.IndexHNSW):  # it keeps no more candidates than that
        setting = Setting(max(setting.effort, k + TIE_SLACK), setting.k_factor)
    if allowed is not None:
        setting = _harder(faiss, index, setting, count / int(index.ntotal))
    scores, rows = _search(faiss, index, queries, k, setting, allowed)
    unsure = np.flatnonzero(rows[:, k - 1] < 0)  # the probed lists held fewer than k rows
    if allowed is not None and count < CONFIRMED_BELOW * int(index.ntotal):
        unsure = np.arange(len(queries))
    while unsure.size and (harder := _harder(faiss, index, setting, 0.5, deeper=2)) != setting:
        setting, before = harder, rows[unsure, :k]
        scores[unsure], rows[unsure] = _search(faiss, index, queries[unsure], k, setting, allowed)
        new = (rows[unsure, :k, None] != before[:, None]).all(axis=2).sum(axis=1)
        unsure = unsure[(new > k // 10) | (rows[unsure, k - 1] < 0)]
    if (short := np.flatnonzero(rows[:, k - 1] < 0)).size:
        every = np.arange(index.ntotal) if allowed is None else allowed.rows
        scores[short], rows[short] = compare_all(faiss, index, queries[short], scores.shape[1], every)
    return ordered(scores, rows, k)


def compare_all(faiss: Any, index: Any, queries: Floats, k: int, rows: Rows) -> tuple[Floats, Rows]:
    """The `k` best of `rows` for each query, every one compared as the index keeps it."""
    scores, found = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(rows), block_rows(index.d)):
        block = rows[start : start + block_rows(index.d)]
        kept = index.reconstruct_batch(block)
        new, places = faiss.knn(queries, kept, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        scores, found = np.concatenate([scores, new], axis=1), np.concatenate([found, block[places]], axis=1)
        scores, found = ordered(scores, found, min(k, scores.shape[1]))
    return scores, found


def most_effort(faiss: Any, index: Any) -> int:
    """The highest effort that changes anything: all lists, all rows of a graph; 1 where nothing is to be set."""
    last = innermost(faiss, index)
    if isinstance(last, faiss.IndexIVF):
        return int(last.nlist)
    return max(1, int(index.ntotal)) if isinstance(last, faiss.IndexHNSW) else 1


def _search(
    faiss: Any, index: Any, queries: Floats, k: int, setting: Setting, allowed: Allowed | None
) -> tuple[Floats, Rows]:
    fetch = min(k + TIE_SLACK, int(index.ntotal) if allowed is None else len(allowed.rows))
    selector = None
    if allowed is not None:
        selector = faiss.IDSelectorBitmap(len(allowed.mask), faiss.swig_ptr(allowed.bits))
    # candidates are counted for the k that are wanted, not for the further ones
    k_factor = max(1.0, setting.k_factor * k / fetch)
    parameters = search_parameters(faiss, index, setting.effort, k_factor, selector)
    scores, rows = index.search(queries, fetch, params=parameters)
    return scores, rows


def _harder(faiss: Any, index: Any, setting: Setting, share: float, *, deeper: int = 1) -> Setting:
    """For neighbours among a share of the rows, which lie farther away; with `deeper` times the candidates."""
    effort = min(most_effort(faiss, index), int(np.ceil(setting.effort / share)))
    k_factor = min(MOST_CANDIDATES, setting.k_factor * deeper) if isinstance(index, faiss.IndexRefine) else 1
    return Setting(max(setting.effort, effort), max(setting.k_factor, k_factor))


def ordered(scores: Floats, rows: Rows, k: int) -> tuple[Floats, Rows]:
    """The best `k` of scores and rows (N, K), by falling score and rising row."""
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
