"""What drives a difference: the new items that are most unlike the reference, and the values of their metadata.

An item's score is the witness function of the test: how much denser the new rows lie around it than those of the
reference. Items of the reference with the lowest scores are what the new data lack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldpress.drift.reference import Reference
from coldpress.drift.sample import Floats, Rows, blocks_of
from coldpress.drift.values import Counts, Overrepresented
from coldpress.probes.label_values import is_missing

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

Doubles = npt.NDArray[np.float64]

RARE = 0.01
"""So much of the reference lies beyond the score from which a new item counts as unlike it."""
_BLOCK_ROWS = 8192
_LEFT_OUT = {"key", "source", "content_hash"}
_QUIET = {"num_tokens", "truncated"}


@dataclass(frozen=True, slots=True)
class Item:
    """An item, its score, and what is known of it."""

    key: str
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def snippet(self) -> str:
        """Its text where it has one, else what is known of it."""
        known = (f"{name} {value}" for name, value in self.metadata.items() if name not in _QUIET)
        return str(self.metadata.get("text") or ", ".join(known))


@dataclass(frozen=True, eq=False, slots=True)
class Driving:
    """What a difference is made of; without an alarm, what chance has made.

    Attributes
    ----------
    unlike : float
        Share of all new items that score higher than 99 % of the reference: 0.01 where nothing has changed.
    items : tuple of Item
        The new items that score highest.
    missing : tuple of Item
        Those among the sample of the reference that score lowest.
    values : tuple of Overrepresented
        Metadata that the unlike items have more often than others.
    scores, reference_scores : ndarray
        Of the samples, for a histogram.
    """

    unlike: float
    items: tuple[Item, ...]
    missing: tuple[Item, ...]
    values: tuple[Overrepresented, ...]
    scores: Doubles
    reference_scores: Doubles


class Witness:
    """The difference of the mean features of two samples, as a function of a vector.

    Attributes
    ----------
    scores, reference_scores : of the rows of the samples. A row is near itself, which says nothing: of those that the
        means are of it is taken out again.
    """

    def __init__(self, reference: Reference, new: Floats) -> None:
        self._features = reference.features
        old, young = reference.mapped, self._features(new)
        n, m = len(old), len(young)
        before, after = (x.mean(axis=0, dtype=np.float64) for x in (old, young))
        self._direction = (after - before).astype(np.float32)
        self.scores: Doubles = (m * (young @ after) - 1) / (m - 1) - young @ before
        self.reference_scores: Doubles = old @ after - (n * (old @ before) - 1) / (n - 1)

    def __call__(self, rows: Floats) -> Floats:
        """The score (N,) of each row (N, D)."""
        return np.asarray(self._features(rows) @ self._direction)


def find_driving(
    witness: Witness,
    reference: tuple[EmbeddingStore, Rows],
    new: EmbeddingStore,
    output: str | None,
    *,
    most: int,
    level: float,
) -> Driving:
    """Score every new item; `reference` is a store and the rows of its sample."""
    limit = float(np.quantile(witness.reference_scores, 1 - RARE))
    counts = Counts(_example(new))
    best, unlike = _Best(most), 0
    take = _in_step(new.iter_metadata(counts.columns or ["key"]))
    for first, block in blocks_of(new, output, _BLOCK_ROWS):
        scores, table = witness(block), take(len(block))
        beyond = scores > limit
        unlike += int(beyond.sum())
        counts.add("unlike", table.filter(pa.array(beyond)))
        counts.add("other", table.filter(pa.array(~beyond)))
        best.add(scores, first)
    for table in reference[0].iter_metadata(counts.columns):
        counts.add("reference", table)
    lowest = np.argsort(witness.reference_scores, kind="stable")[:most]
    return Driving(
        unlike=unlike / len(new),
        items=_items(new, best.rows, best.scores),
        missing=_items(reference[0], reference[1][lowest], witness.reference_scores[lowest]),
        values=counts.overrepresented(level),
        scores=witness.scores,
        reference_scores=witness.reference_scores,
    )


class _Best:
    """The rows of the highest scores so far, the highest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows, self.scores = np.empty(0, np.int64), np.empty(0)

    def add(self, scores: Floats, first: int) -> None:
        rows = np.concatenate([self.rows, np.arange(first, first + len(scores))])
        scores_ = np.concatenate([self.scores, scores])
        kept = np.argsort(-scores_, kind="stable")[: self._most]
        self.rows, self.scores = rows[kept], scores_[kept]


def _example(store: EmbeddingStore) -> pa.Table:
    """The first shard's columns that may say something."""
    table = next((table for table in store.iter_metadata() if len(table)), pa.table({}))
    return table.select([name for name in table.column_names if name not in _LEFT_OUT])


def _in_step(tables: Iterator[pa.Table]) -> Callable[[int], pa.Table]:
    """A function that hands out the next so many rows of tables that follow each other."""
    rest: list[pa.Table] = []

    def take(rows: int) -> pa.Table:
        while sum(map(len, rest)) < rows:
            rest.append(next(tables))
        whole = pa.concat_tables(rest, promote_options="default")
        rest[:] = [whole.slice(rows)]
        return whole.slice(0, rows)

    return take


def _items(store: EmbeddingStore, rows: Rows, scores: Sequence[float] | Doubles) -> tuple[Item, ...]:
    """Items with all that is known of them."""
    return tuple(
        Item(
            str(known["key"]),
            float(score),
            {name: value for name, value in known.items() if name not in _LEFT_OUT and not is_missing(value)},
        )
        for known, score in zip(store.take_metadata(rows).to_pylist(), scores, strict=True)
    )
