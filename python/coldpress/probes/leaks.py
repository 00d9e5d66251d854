"""Test items that the training part holds too, hardly changed: found by their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.engine.certificate import unit
from coldpress.probes.features import Features

NEAR = 0.8
"""Cosine of centred vectors from which on two items count as one.

Photos saved again as JPEG of quality 75 keep 0.83 and more, of quality 50 0.8 and more for 95 of 100; texts with other
white space keep 1 (MobileNet, MiniLM). Other photos of ants and bees have no neighbour above 0.66. It was chosen on
these data, which the tests use too: on others it may find more or fewer, so that pairs are named with their cosine.
"""
SAMPLE = 500
"""Training items that say how close unrelated ones are."""
MOST_PRODUCTS = 5e12
"""Of the comparison, about 20 s on two cores; larger parts are compared on a draw of the test items."""


@dataclass(frozen=True, slots=True)
class Leaks:
    """Test items with a near duplicate in the training part.

    Attributes
    ----------
    compared : int
        Test items that were looked at.
    test, train, cosine : (L,)
        Places of the pairs in both parts, the closest first, and how close.
    """

    compared: int
    test: npt.NDArray[np.int64]
    train: npt.NDArray[np.int64]
    cosine: npt.NDArray[np.float64]


def near_duplicates(train: Features, test: Features, *, near: float = NEAR, seed: int = 0) -> Leaks:
    """Compare every test item with all training items; the training part is read in blocks.

    `near` is the cosine, after the mean of the training part has been subtracted from both, that counts as a copy. It
    is raised where training items are that close to each other anyway: to 0.6 of the way from their median to 1.
    """
    rng = np.random.default_rng(seed)
    most = max(1, int(MOST_PRODUCTS / (len(train) * train.dim)))
    places, sample = _some(len(test), most, rng), _some(len(train), SAMPLE, rng)
    mean = train.mean().astype(np.float32)
    queries = np.concatenate([test.take(places).array(np.float32), train.take(sample).array(np.float32)])
    itself = np.concatenate([np.full(len(places), -1), sample])
    nearest, closest = _closest(unit(queries - mean), itself, train, mean)
    usual = float(np.median(closest[len(places) :]))
    nearest, closest = nearest[: len(places)], closest[: len(places)]
    found = np.flatnonzero(closest >= max(near, usual + 0.6 * (1 - usual)))
    found = found[np.argsort(-closest[found], kind="stable")]
    return Leaks(len(places), places[found], nearest[found], closest[found])


def _some(items: int, most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.arange(items) if items <= most else np.sort(rng.choice(items, most, replace=False))


def _closest(
    queries: npt.NDArray[Any], itself: npt.NDArray[np.int64], train: Features, mean: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The training item nearest to each query (Q,), but that which the query is, or -1; and the cosine."""
    closest, nearest = np.full(len(queries), -1.0), np.zeros(len(queries), dtype=np.int64)
    for rows, block in train.blocks():
        theirs = unit(block - mean)
        for start in range(0, len(queries), 1024):
            part = slice(start, start + 1024)
            cosines, own = queries[part] @ theirs.T, itself[part] - rows.start
            inside = np.flatnonzero((own >= 0) & (own < len(theirs)))
            cosines[inside, own[inside]] = -1
            best = cosines.argmax(axis=1)
            values = cosines[np.arange(len(best)), best]
            nearest[part] = np.where(values > closest[part], best + rows.start, nearest[part])
            closest[part] = np.maximum(values, closest[part])
    return nearest, closest
