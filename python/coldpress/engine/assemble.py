"""Turns prepared items into what the store takes: vectors, one outcome an item, repetitions by reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from coldpress.engine.compute import NOT_FINITE, Computer
from coldpress.engine.delivery import Delivery
from coldpress.engine.known import KnownRows, ReusedRows
from coldpress.engine.sample import Prepared
from coldpress.engine.vectors import Vectors, finite_rows, joined
from coldpress.types import Failed, Item, KnownInput, ModelInput, Outcome, Results


class Assembler:
    """Gets each distinct content of a run once: from the store itself, from one that is reused, else by computing it.

    Attributes
    ----------
    computed, reused : vectors so far, by where they came from.
    """

    def __init__(self, compute: Computer, known: KnownRows, reuse: ReusedRows | None) -> None:
        self._compute, self._known, self._reuse = compute, known, reuse
        self.computed = self.reused = 0

    @property
    def rows(self) -> int:
        """Rows of the store so far, committed or on their way there."""
        return self._known.count

    def known(self, hashes: Sequence[str]) -> list[bool]:
        """Whether each content needs no computing; for the threads that prepare, ahead of the calls."""
        found = [row is not None for row in self._known.find(hashes)]
        if self._reuse is not None:
            found = [own or row is not None for own, row in zip(found, self._reuse.find(hashes), strict=True)]
        return found

    def __call__(self, items: Sequence[Item], chunk: Sequence[Prepared] | Delivery) -> Results:
        """The results of a chunk, to be written in the order of the calls; of a delivery nothing is computed here."""
        inputs = chunk.inputs if isinstance(chunk, Delivery) else chunk
        good = [prepared for prepared in inputs if not isinstance(prepared, Failed)]
        by_hash = {prepared.content_hash: prepared for prepared in reversed(good)}
        hashes = list(dict.fromkeys(prepared.content_hash for prepared in good))
        first = {digest: row for digest, row in zip(hashes, self._known.find(hashes), strict=True) if row is not None}
        new = [digest for digest in hashes if digest not in first]
        vectors = self._vectors(new, [by_hash[digest] for digest in new], chunk)
        finite = dict(zip(new, finite_rows(vectors), strict=True))
        place = {digest: i for i, digest in enumerate(new)}
        outcomes: list[Outcome] = []
        copies: list[int | None] = []
        rows: list[tuple[str, str]] = []
        taken: list[int] = []
        for item, prepared in zip(items, inputs, strict=True):
            if isinstance(prepared, Failed) or not finite.get(prepared.content_hash, True):
                reason = prepared.reason if isinstance(prepared, Failed) else NOT_FINITE.reason
                outcomes.append(Outcome(item.key, "failed", reason))
                continue
            digest = prepared.content_hash
            row = first.get(digest)
            copies.append(row)
            if row is None:
                first[digest] = self._known.count + len(rows)
                taken.append(place[digest])
                outcomes.append(Outcome(item.key, "ok"))
            else:
                here = row - self._known.count
                outcomes.append(
                    Outcome(item.key, "duplicate", rows[here][1] if here >= 0 else self._known.first_key(row))
                )
            rows.append((digest, item.key))
        self._known.append([r[0] for r in rows], [r[1] for r in rows], [row is None for row in copies])
        return Results(items, inputs, outcomes, copies, {name: values[taken] for name, values in vectors.items()})

    def _vectors(
        self, hashes: Sequence[str], inputs: Sequence[ModelInput | KnownInput], chunk: Sequence[Prepared] | Delivery
    ) -> Vectors:
        """The vectors of distinct contents, those of the reused store taken from there."""
        found = [None] * len(hashes) if self._reuse is None else self._reuse.find(hashes)
        fresh = [i for i, row in enumerate(found) if row is None]
        old = [i for i, row in enumerate(found) if row is not None]
        self.computed += len(fresh)
        self.reused += len(old)
        if isinstance(chunk, Delivery):
            computed = chunk.take([hashes[i] for i in fresh])
        else:
            computed = self._compute([cast(ModelInput, inputs[i]) for i in fresh])
        if self._reuse is None or not old:
            return computed
        copied = self._reuse.vectors([row for row in found if row is not None])
        order = np.argsort([*fresh, *old])
        return {name: joined([rows, copied[name]])[order] for name, rows in computed.items()}


def cut_results(results: Results, at: int) -> list[Results]:
    """The same results in one or two parts, the first of at most `at` items."""
    if len(results.items) <= at:
        return [results]
    row = sum(outcome.status != "failed" for outcome in results.outcomes[:at])
    new = sum(copied is None for copied in results.copies[:row])
    return [
        Results(
            results.items[items],
            results.inputs[items],
            results.outcomes[items],
            results.copies[rows],
            {name: vectors[own] for name, vectors in results.vectors.items()},
        )
        for items, rows, own in (
            (slice(at), slice(row), slice(new)),
            (slice(at, None), slice(row, None), slice(new, None)),
        )
    ]
