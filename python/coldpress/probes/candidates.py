"""What cross-validation says of each setting of a head, and which one to take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Candidate:
    """One setting on the training part: means over the folds.

    Attributes
    ----------
    head : its kind.
    setting : C of ``logistic``, alpha of ``ridge``, shrinkage of ``lda``, k of ``knn``; None of ``centroid``.
    score, score_std : accuracy of classes, R^2 of numbers, F1 over all decisions of several labels an item.
    loss : log loss, of numbers the mean squared error; None where the head gives no probabilities.
    features : what it was trained on, where several were compared.
    """

    head: str
    setting: float | None
    score: float
    score_std: float
    loss: float | None = None
    features: str = ""


def candidate(
    head: str, setting: float | None, scores: npt.NDArray[Any], losses: npt.NDArray[Any] | None = None
) -> Candidate:
    """Of the scores and losses of each fold."""
    loss = None if losses is None else float(np.mean(losses))
    return Candidate(head, setting, float(np.mean(scores)), float(np.std(scores)), loss)


def best(candidates: Iterable[Candidate]) -> Candidate:
    """The one of highest score; among equals, of lowest loss."""
    return max(candidates, key=lambda one: (one.score, -(np.inf if one.loss is None else one.loss)))
