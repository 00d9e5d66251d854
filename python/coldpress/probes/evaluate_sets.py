"""How good predictions of several labels an item are, with the uncertainty that the size of the test part leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.probes.evaluate import Label
from coldpress.probes.resample import RESAMPLES, Interval, interval, resamples

Array = npt.NDArray[Any]
MOST_DECISIONS = 2e8
"""Of the resampling, about ten seconds; more items or labels are resampled less often, but 100 times at least."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label on the test part: `support` items carry it, `predicted` items were given it.

    `average_precision` is the area under precision over recall; None where no item carries the label.
    """

    label: Label
    average_precision: float | None
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True, slots=True)
class SetEvaluation:
    """Predicted labels compared with those that items carry; 95 % intervals (low, high) by resampling the test items.

    Attributes
    ----------
    items : int
    mean_average_precision : over the labels that occur.
    chance : what an order at random has of it: the mean share of items that carry a label.
    micro_f1, macro_f1 : over all decisions, and the mean over the labels that occur.
    exact : share of items all of whose labels are right.
    per_label : tuple of LabelScore
    """

    items: int
    mean_average_precision: float
    map_interval: Interval
    chance: float
    micro_f1: float
    micro_f1_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    exact: float
    per_label: tuple[LabelScore, ...]


def evaluate_sets(answers: Array, logits: Array, names: Sequence[Label], *, seed: int = 0) -> SetEvaluation:
    """Compare logits (N, L), of which those above 0 are answered with yes, with `answers` (N, L) of 0 and 1."""
    given, asked = logits > 0, answers > 0
    ranking = [np.argsort(-logits[:, label], kind="stable") for label in range(len(names))]
    once = _measures(asked, given, logits, ranking, np.ones(len(logits)))
    count = int(np.clip(MOST_DECISIONS / logits.size, 100, RESAMPLES))
    times = resamples(len(logits), np.random.default_rng(seed), count)
    many = np.stack([_measures(asked, given, logits, ranking, n)[0] for n in times])
    precision, support, predicted = once[1], asked.sum(axis=0), given.sum(axis=0)
    right = (asked & given).sum(axis=0)
    rows = zip(names, precision, right, support, predicted, strict=True)
    return SetEvaluation(
        items=len(logits),
        mean_average_precision=float(once[0][0]),
        map_interval=interval(many[:, 0]),
        chance=float(asked.mean(axis=0)[support > 0].mean()),
        micro_f1=float(once[0][1]),
        micro_f1_interval=interval(many[:, 1]),
        macro_f1=float(once[0][2]),
        macro_f1_interval=interval(many[:, 2]),
        exact=float((asked == given).all(axis=1).mean()),
        per_label=tuple(_score(*row) for row in rows),
    )


def _score(label: Label, average_precision: float, right: int, support: int, predicted: int) -> LabelScore:
    return LabelScore(
        label=label,
        average_precision=None if np.isnan(average_precision) else float(average_precision),
        precision=float(right / max(predicted, 1)),
        recall=float(right / max(support, 1)),
        f1=float(2 * right / max(support + predicted, 1)),
        support=int(support),
        predicted=int(predicted),
    )


def _measures(
    asked: Array, given: Array, logits: Array, ranking: Sequence[Array], times: Array
) -> tuple[tuple[float, float, float], Array]:
    """Mean average precision, F1 over all and over labels, and average precisions (L,), of items so many `times` (N,).

    `ranking` has the items by falling logit, for each label.
    """
    right, support, predicted = (times @ part for part in (asked & given, asked, given))
    occurs = support > 0
    f1 = 2 * right / np.maximum(support + predicted, 1)
    precisions = np.full(asked.shape[1], np.nan)
    for label in np.flatnonzero(occurs).tolist():
        order = ranking[label]
        precisions[label] = _average_precision(asked[order, label], logits[order, label], times[order])
    micro = 2 * right.sum() / max(support.sum() + predicted.sum(), 1)
    mean = float(precisions[occurs].mean()) if occurs.any() else float("nan")
    return (mean, float(micro), float(f1[occurs].mean()) if occurs.any() else float("nan")), precisions


def _average_precision(asked: Array, logits: Array, times: Array) -> float:
    """Of items by falling logit; those of one logit are taken together."""
    ends = np.flatnonzero(np.append(np.diff(logits) != 0, True))
    found, looked_at = np.cumsum(times * asked)[ends], np.cumsum(times)[ends]
    gained = np.diff(found, prepend=0)
    return float((gained * found / np.maximum(looked_at, 1)).sum() / found[-1])
