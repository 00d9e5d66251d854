"""Each item classified by a logistic regression that has not seen it, its strength chosen without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.probes import logistic
from coldpress.probes.features import Features

Array = npt.NDArray[Any]

GRID = logistic.C_GRID[::4]
"""A value of C a decade: accuracies are within noise of those of the whole path."""


def held_out_predictions(
    features: Features, codes: Array, folds: Array, *, columns: int, grid: Sequence[float] = GRID
) -> npt.NDArray[np.int64]:
    """The class (N,) of every item by the model of the other folds.

    C of a fold is the one that does best in the others. So one path serves all folds, and no item has a say in what
    judges it but as one training item of many.

    Parameters
    ----------
    features : N rows.
    codes : (N,) int64, their classes, each of the `columns` from 0 on.
    folds : (N,) int64, in which fold each item is held out.
    grid : values of C, a geometric series, rising.
    """
    parts = int(folds.max()) + 1
    weights = (folds[:, None] != np.arange(parts)).astype(np.float64)
    centred = logistic._centred(features)[0]
    predicted = np.empty((len(grid), len(codes)), dtype=np.int64)
    scores, losses = np.empty((len(grid), parts)), np.empty((len(grid), parts))
    with logistic._path(centred, codes, columns, weights, folds) as path:
        for i, point in enumerate(path.follow(grid, logistic.SEARCH_TOLERANCE)):
            rows, loss, right, _ = point.held_out.numpy().T
            scores[i], losses[i] = right / rows, loss / rows
            V = point.V.numpy()
            for part, block in centred.blocks():
                for fold in np.unique(folds[part]).tolist():
                    mine = np.flatnonzero(folds[part] == fold)
                    predicted[i, part.start + mine] = _decided(block[mine] @ V[fold, :-1] + V[fold, -1])
    chosen = [_best(scores, losses, fold) for fold in range(parts)]
    return np.asarray(predicted[np.asarray(chosen)[folds], np.arange(len(codes))])


def _decided(logits: Array) -> Array:
    return (logits[:, 0] > 0).astype(np.int64) if logits.shape[1] == 1 else logits.argmax(axis=1)


def _best(scores: Array, losses: Array, fold: int) -> int:
    """Of the values of C, the one of highest score in the other folds; among equals, of lowest loss."""
    others = np.arange(scores.shape[1]) != fold
    return int(np.lexsort((-losses[:, others].mean(axis=1), scores[:, others].mean(axis=1)))[-1])
