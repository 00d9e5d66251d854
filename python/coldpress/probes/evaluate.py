"""How good predictions are, with the uncertainty that the size of the test part leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Label = str | int
Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class on the test part: `support` items carry the label, `predicted` items were given it."""

    label: Label
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions compared with labels.

    Attributes
    ----------
    items : int
        Items compared.
    accuracy, interval
        Share that is right, and its 95 % Wilson interval (low, high): the uncertainty from testing on this many
        items, not from training on other ones.
    balanced_accuracy : float
        Mean recall over the classes that occur in the test part.
    majority_baseline : float
        Accuracy of always answering the most frequent class of the training part.
    per_class : tuple of ClassScore
    confusion : tuple of tuple of int, shape (K, K)
        Row: label, column: prediction; in the order of `per_class`.
    """

    items: int
    accuracy: float
    interval: tuple[float, float]
    balanced_accuracy: float
    majority_baseline: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        tuples = {"interval": list(self.interval), "confusion": [list(row) for row in self.confusion]}
        return {**asdict(self), **tuples, "per_class": [asdict(score) for score in self.per_class]}


def wilson_interval(right: int, items: int) -> tuple[float, float]:
    """95 % Wilson score interval for a share of `right` among `items` (at least 1).

    Examples
    --------
    >>> low, high = wilson_interval(47, 50)
    >>> round(low, 3), round(high, 3)
    (0.838, 0.979)
    """
    share, z2 = right / items, Z_95**2
    centre = (share + z2 / (2 * items)) / (1 + z2 / items)
    reach = Z_95 / (1 + z2 / items) * sqrt(share * (1 - share) / items + z2 / (4 * items**2))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def accuracy_change(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> tuple[float, tuple[float, float]]:
    """By how much accuracy changes on the same items, both (N,) whether right, and a 95 % interval (low, high) for it.

    The interval is that of Bonett and Price (2012) for paired shares: what both get right or wrong says nothing of the
    change, so it is far narrower than the difference of two intervals of accuracy.

    Examples
    --------
    >>> before = np.arange(100) < 90
    >>> change, (low, high) = accuracy_change(before, before & (np.arange(100) > 3))
    >>> round(change, 3), round(low, 3), round(high, 3)
    (-0.04, -0.086, 0.007)
    """
    items, gained, lost = len(before), int((after & ~before).sum()), int((before & ~after).sum())
    up, down = (gained + 1) / (items + 2), (lost + 1) / (items + 2)
    reach = Z_95 * sqrt((up + down - (up - down) ** 2) / (items + 2))
    return (gained - lost) / items, (max(-1.0, up - down - reach), min(1.0, up - down + reach))


def evaluate(
    labels: npt.NDArray[Any], predictions: npt.NDArray[Any], classes: Sequence[Label], *, majority: Label
) -> Evaluation:
    """Compare `predictions` with `labels`, both (N,), N at least 1, all among `classes`.

    `majority` is the most frequent class of the training part.
    """
    position = {label: i for i, label in enumerate(classes)}
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    truth = [position[label] for label in labels.tolist()]
    np.add.at(confusion, (truth, [position[label] for label in predictions.tolist()]), 1)
    right, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    recall = right / np.maximum(support, 1)
    precision = right / np.maximum(predicted, 1)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    scores = zip(classes, precision, recall, f1, support, predicted, strict=True)
    items = len(labels)
    return Evaluation(
        items=items,
        accuracy=int(right.sum()) / items,
        interval=wilson_interval(int(right.sum()), items),
        balanced_accuracy=float(recall[support > 0].mean()),
        majority_baseline=int(support[position[majority]]) / items,
        per_class=tuple(
            ClassScore(label, float(p), float(r), float(f), int(s), int(n)) for label, p, r, f, s, n in scores
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )
