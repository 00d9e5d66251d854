"""Weighted nearest neighbours: the k training vectors of highest cosine vote, each with the weight ``exp(cosine / T)``.

The head of DINO (Caron et al. 2021), with its values of k and T. Training rows are read in blocks, and one pass over
them serves every k. Cosines come from :func:`coldpress.ops.linear`, whose every number is one chain of multiplications
and additions: it does not depend on where a row stands. Among equal cosines the first row counts. So the result does
not depend on blocks or threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coldpress._process import cores
from coldpress.engine.certificate import unit
from coldpress.models.workers import single_threaded_workers
from coldpress.ops.linear import linear, pack_weight
from coldpress.probes.candidates import Candidate, candidate
from coldpress.probes.features import Features

Array = npt.NDArray[Any]

KS = (10, 20, 100, 200)
TEMPERATURE = 0.07
BLOCK_ROWS = 2048
"""Training rows whose cosines with some queries are looked at together, from the cache."""
CHUNK, MOST_QUERIES = 256, 8192
"""Queries that a thread takes at a time, and that have their neighbours found in one pass over the training rows."""
KEPT_BYTES = 1 << 30
"""Training rows that take no more stay in memory, as float32, from the first query on."""
MOST_PRODUCTS = 2e12
"""Of a search for k, about 15 s on two cores; of larger training parts a draw of the rows is classified."""
_FAR = -4.0
"""Added to the cosines of rows that may not vote: their weight is nothing."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Training rows that vote.

    Attributes
    ----------
    features : N training rows; of any length, and taken as unit vectors.
    codes : (N,) int64, their classes, each of the `columns` from 0 on.
    columns : K.
    folds : (N,) int64; needed only where a fold is to be left out.
    """

    features: Features
    codes: Array
    columns: int
    folds: Array | None = None
    _kept: list[tuple[int, int, torch.Tensor]] = field(default_factory=list)

    def nearest(self, queries: Array, k: int, *, fold: int = -1) -> tuple[Array, Array]:
        """Cosines (Q, k) float32, falling, and places (Q, k) of the k rows nearest to queries (Q, D) float32.

        `k` is at most N; rows of `fold` come after all others.
        """
        found = [np.empty((0, k), dtype=np.int64)]
        with single_threaded_workers(cores()) as workers:
            for start in range(0, len(queries), MOST_QUERIES):
                x = torch.from_numpy(unit(np.asarray(queries[start : start + MOST_QUERIES], dtype=np.float32)))
                found.append(self._keys(x, k, fold, workers))
        return _unlocked(np.concatenate(found))

    def shares(self, queries: Array, ks: Sequence[int], *, fold: int = -1) -> Array:
        """Of the votes for each class, (len(ks), Q, K) float64: they add up to 1."""
        cosines, places = self.nearest(queries, max(ks), fold=fold)
        weights = weights_of(1 - cosines.astype(np.float64))
        cells = np.arange(len(queries))[:, None] * self.columns + self.codes[places]
        found = np.empty((len(ks), len(queries), self.columns))
        for votes, k in zip(found, ks, strict=True):
            size = len(queries) * self.columns
            votes[:] = np.bincount(cells[:, :k].ravel(), weights[:, :k].ravel(), size).reshape(votes.shape)
        return np.asarray(found / found.sum(axis=2, keepdims=True))

    def _keys(self, x: torch.Tensor, k: int, fold: int, workers: ThreadPoolExecutor) -> Array:
        """The k highest of what :func:`_locked` makes of cosines and places, for each row of x (q, D), falling."""
        chunks = torch.split(x, CHUNK)
        best = [torch.empty(len(chunk), 0, dtype=torch.int64) for chunk in chunks]
        for start, rows, packed in self._blocks():
            bias = torch.zeros(rows)
            if self.folds is not None:
                bias[torch.from_numpy(self.folds[start : start + rows] == fold)] = _FAR

            def one(
                chunk: torch.Tensor,
                kept: torch.Tensor,
                start: int = start,
                packed: torch.Tensor = packed,
                bias: torch.Tensor = bias,
            ) -> torch.Tensor:
                return _merged(kept, linear(chunk, packed, bias), start, k)

            best = list(workers.map(one, chunks, best))
        return torch.cat(best).sort(1, descending=True)[0].numpy()

    def _blocks(self) -> Iterator[tuple[int, int, torch.Tensor]]:
        """First place, number of rows, and what multiplies by them."""
        if self._kept:
            yield from self._kept
            return
        keep, found = 4 * len(self.features) * self.features.dim <= KEPT_BYTES, []
        for part, block in self.features.blocks():
            for start in range(0, len(block), BLOCK_ROWS):
                rows = torch.from_numpy(unit(block[start : start + BLOCK_ROWS]))
                one = (part.start + start, len(rows), pack_weight(rows))
                if keep:
                    found.append(one)
                yield one
        self._kept[:] = found


def _merged(best: torch.Tensor, cosines: torch.Tensor, start: int, k: int) -> torch.Tensor:
    """The k highest keys (q, k) of those so far and of the cosines (q, b) with the rows from `start` on."""
    if best.shape[1] < k:
        keys = torch.cat([best, _locked(cosines, torch.arange(start, start + cosines.shape[1]))], 1)
        return keys.topk(min(k, keys.shape[1]), sorted=False)[0]
    least = torch.from_numpy(_unlocked(best.amin(1).numpy())[0])
    query, place = (cosines > least[:, None]).nonzero(as_tuple=True)  # equal ones come later: they lose
    if not len(query):
        return best
    counts = torch.bincount(query, minlength=len(best))
    column = torch.arange(len(query)) - (counts.cumsum(0) - counts)[query]
    keys = torch.full((len(best), int(counts.max())), torch.iinfo(torch.int64).min)
    keys[query, column] = _locked(cosines[query, place], place + start)
    return torch.cat([best, keys], 1).topk(k, sorted=False)[0]


def _locked(cosines: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """One int64 of each: higher the higher the cosine and, where these are equal, the lower the place."""
    bits = cosines.contiguous().view(torch.int32)
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (rising.to(torch.int64) << 32) | (0xFFFFFFFF - places)


def _unlocked(keys: Array) -> tuple[Array, Array]:
    """The cosines and the places."""
    rising = (keys >> 32).astype(np.int32)
    return (rising ^ ((rising >> 31) & 0x7FFFFFFF)).view(np.float32), 0xFFFFFFFF - (keys & 0xFFFFFFFF)


def weights_of(distances: Array) -> Array:
    """Of votes at cosine distances, 1 at distance 0."""
    return np.asarray(np.exp(-distances / TEMPERATURE))


def estimator(vectors: Array, labels: Array, k: int) -> Any:
    """The KNeighborsClassifier of scikit-learn that votes in the same way."""
    from sklearn.neighbors import KNeighborsClassifier

    k = min(k, len(vectors))
    return KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights_of).fit(vectors, labels)


def settings(folds: Array) -> tuple[int, ...]:
    """The values of k that the training part of every fold has rows for; at least one."""
    rows = len(folds) - int(np.bincount(folds).max())
    return tuple(k for k in KS if k <= rows) or (max(1, rows),)


def search(
    features: Features, codes: Array, folds: Array, *, columns: int, ks: Sequence[int] | None = None
) -> tuple[Candidate, ...]:
    """Each k in cross-validation, all from one pass for each fold; arguments as of :func:`logistic.search_C`.

    Of a training part of more than `MOST_PRODUCTS` / (N D) rows, that many are classified, drawn at random.
    """
    compared = tuple(ks or settings(folds))
    voters = Neighbours(features, codes, columns, folds)
    rows = drawn(len(codes), int(MOST_PRODUCTS / (len(codes) * features.dim)))
    counts = np.zeros((len(compared), int(folds.max()) + 1, 3))  # rows, right, loss
    for fold, mine, shares in _held_out(voters, rows, compared):
        logits = logits_of(shares, np.asarray(compared)[:, None, None])
        right = (shares.argmax(axis=2) == codes[mine]).sum(axis=1)
        loss = -np.take_along_axis(logits, codes[mine][None, :, None], 2)[..., 0].sum(axis=1)
        counts[:, fold] += np.stack([np.full(len(compared), len(mine)), right, loss], 1)
    seen = counts[..., 0].all(axis=0)
    shares_right, losses = counts[..., 1:][:, seen].transpose(2, 0, 1) / counts[:, seen, 0]
    return tuple(candidate("knn", k, shares_right[i], losses[i]) for i, k in enumerate(compared))


def held_out(voters: Neighbours, k: int, rows: Array) -> Array:
    """The logits (n, K) of some rows by those of other folds."""
    logits = np.empty((len(rows), voters.columns))
    for _, mine, shares in _held_out(voters, rows, (k,)):
        logits[np.searchsorted(rows, mine)] = logits_of(shares[0], k)
    return logits


def _held_out(voters: Neighbours, rows: Array, ks: Sequence[int]) -> Iterator[tuple[int, Array, Array]]:
    """(fold, rows, shares) of the ascending `rows` by those of other folds, some rows of one fold at a time."""
    folds = np.asarray(voters.folds)
    step = max(1, min(MOST_QUERIES, (1 << 24) // (len(ks) * voters.columns)))
    for fold in np.unique(folds[rows]).tolist():
        mine = rows[folds[rows] == fold]
        for start in range(0, len(mine), step):
            part = mine[start : start + step]
            yield fold, part, voters.shares(voters.features.take(part).array(np.float32), ks, fold=fold)


def logits_of(shares: Array, k: Array | int) -> Array:
    """Logarithms of the shares of k votes and one more, spread over the classes: no class is impossible."""
    return np.asarray(np.log((k * shares + 1 / shares.shape[-1]) / (np.asarray(k) + 1)))


def drawn(items: int, most: int) -> npt.NDArray[np.int64]:
    """All places, or a random `most` of them (at least 1000), ascending."""
    most = max(1000, most)
    if items <= most:
        return np.arange(items)
    return np.sort(np.random.default_rng(0).choice(items, most, replace=False))
