"""Turns prepared items into what the store takes: vectors, one outcome an item, duplicates copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from coldpress.engine.compute import NOT_FINITE, Computer, Vectors, finite_rows
from coldpress.types import Failed, Item, ModelInput, Outcome, Results

_Row = tuple[str, dict[str, npt.NDArray[np.generic]]]


class Assembler:
    """Computes each distinct content of a shard once.

    It remembers the vectors of the shard under way, in the stored dtype, so that a duplicate's row equals its first
    one; :meth:`forget` starts the next shard. Duplicates in different shards are computed again: a shard has to
    follow from its own inputs alone.
    """

    def __init__(self, compute: Computer, dtype: str) -> None:
        self._compute, self._dtype = compute, dtype
        self._known: dict[str, _Row] = {}

    def forget(self) -> None:
        """Begin a new shard."""
        self._known.clear()

    def __call__(self, items: Sequence[Item], inputs: Sequence[ModelInput | Failed]) -> Results:
        """Compute a chunk."""
        new: dict[str, ModelInput] = {}
        for prepared in inputs:
            if not isinstance(prepared, Failed) and prepared.content_hash not in self._known:
                new.setdefault(prepared.content_hash, prepared)
        vectors = self._compute(list(new.values()))
        good = dict(zip(new, finite_rows(vectors), strict=True))
        stored = {name: rows.astype(self._dtype) for name, rows in vectors.items()}
        place = {digest: row for row, digest in enumerate(new)}
        outcomes, rows = [], []
        for item, prepared in zip(items, inputs, strict=True):
            if isinstance(prepared, Failed):
                outcomes.append(Outcome(item.key, "failed", prepared.reason))
                continue
            digest = prepared.content_hash
            if not good.get(digest, True):
                outcomes.append(Outcome(item.key, "failed", NOT_FINITE.reason))
                continue
            if first := self._known.get(digest):
                outcomes.append(Outcome(item.key, "duplicate", first[0]))
            else:
                outcomes.append(Outcome(item.key, "ok"))
                self._known[digest] = (item.key, {name: rows_[place[digest]] for name, rows_ in stored.items()})
            rows.append(self._known[digest][1])
        return Results(items, inputs, outcomes, self._stack(rows, vectors))

    def _stack(self, rows: Sequence[dict[str, npt.NDArray[np.generic]]], like: Vectors) -> Vectors:
        return {
            name: np.stack([row[name] for row in rows]).astype(np.float32)
            if rows
            else np.empty((0, values.shape[1]), np.float32)
            for name, values in like.items()
        }
