"""A store in parts, in the order of time or of a column: each is tested for itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.drift.mmd import Verdict
from coldpress.drift.reference import Reference
from coldpress.drift.sample import MIN_NEW, SAMPLE, Rows, draw, read_rows
from coldpress.errors import ColdpressError
from coldpress.probes.label_values import is_missing

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

MOST_WINDOWS = 500
"""Each takes up to 0.2 s; more than that nobody looks at."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the new rows, and what the test says of it.

    `name` is the number of its first row, or its value; `ended`, of a stream, the time in seconds since 1970.
    """

    name: str
    items: int
    verdict: Verdict
    ended: float | None = None


def by_count(store: EmbeddingStore, size: int) -> Iterator[tuple[str, int, Rows]]:
    """Rows in the order of the store, so many at a time: name, number of items and those that are tested.

    Raises
    ------
    ColdpressError
        If a window is too small to be tested, or there are too many of them.
    """
    if size < MIN_NEW:
        raise ColdpressError(f"a window of {size} items is too small to be tested, expected at least {MIN_NEW}")
    if len(store) > MOST_WINDOWS * size:
        least = -(-len(store) // MOST_WINDOWS)
        raise ColdpressError(f"windows of {size} items would be more than {MOST_WINDOWS}: take {least} items or more")
    for first in range(0, len(store), size):
        rows = min(size, len(store) - first)
        if rows >= MIN_NEW:
            yield f"{first:,}", rows, first + draw(rows, SAMPLE, first)


def by_column(store: EmbeddingStore, column: str, seed: int) -> Iterator[tuple[str, int, Rows]]:
    """Rows with the same value of a metadata column, in the order of the values; those without one are left out.

    Raises
    ------
    ColdpressError
        If there is no such column, or it has too many values.
    """
    if column not in store.columns:
        known = ", ".join(store.columns)
        raise ColdpressError(f"{store.path} has no metadata column {column!r}, expected one of {known}")
    rng = np.random.default_rng(seed)
    counts: Counter[Any] = Counter()
    drawn: dict[Any, tuple[Rows, npt.NDArray[np.float64]]] = {}  # rows, each with a random number: the lowest stay
    first = 0
    for table in filter(len, store.iter_metadata([column])):  # a shard without rows may lack the column
        values = np.asarray(table.column(column).to_pylist(), dtype=object)
        for value in {value for value in set(values.tolist()) if not is_missing(value)}:
            rows = first + np.flatnonzero(values == value)
            counts[value] += len(rows)
            before = drawn.get(value, (np.empty(0, np.int64), np.empty(0)))
            rows, turns = np.append(before[0], rows), np.append(before[1], rng.random(len(rows)))
            kept = np.argsort(turns)[:SAMPLE]
            drawn[value] = rows[kept], turns[kept]
        if len(counts) > MOST_WINDOWS:
            raise ColdpressError(f"column {column!r} has more than {MOST_WINDOWS} values: name one such as the day")
        first += len(table)
    large = [value for value in sorted(counts) if counts[value] >= MIN_NEW]
    if not large:
        raise ColdpressError(f"every value of column {column!r} has fewer than {MIN_NEW} items: name a coarser one")
    for value in large:
        yield str(value), counts[value], drawn[value][0]


def compare_windows(
    reference: Reference,
    store: EmbeddingStore,
    output: str | None,
    parts: Iterable[tuple[str, int, Rows]],
    *,
    level: float,
    seed: int,
) -> tuple[Window, ...]:
    """Test each part against the same reference."""
    found = []
    for number, (name, items, rows) in enumerate(parts, 1):
        vectors = read_rows(store, output, rows)
        found.append(Window(name, items, reference.compare(vectors, level=level, seed=seed + number)))
    return tuple(found)
