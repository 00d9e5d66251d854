"""A closer look at a head on its test part: resampled intervals, calibration, groups, the most confident mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.probes.evaluate import Label, wilson_interval
from coldpress.probes.resample import RESAMPLES, Interval, interval, resamples

Array = npt.NDArray[Any]
BINS = 10
MISTAKES = 20


@dataclass(frozen=True, slots=True)
class Bin:
    """Items whose most probable class is about so probable: what was promised, and the share that is right."""

    items: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """An item taken for another class, and how sure the head was."""

    key: str
    label: Label
    prediction: Label
    probability: float


@dataclass(frozen=True, slots=True)
class GroupScore:
    """Accuracy within one group of the test part, with its 95 % Wilson interval."""

    group: str
    items: int
    accuracy: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Examination:
    """What accuracy alone does not say.

    Attributes
    ----------
    balanced_interval, f1, f1_interval
        Mean recall, and mean F1 (macro), over the classes that occur; 95 % intervals by resampling the test items.
    log_loss : float
    calibration_error, calibration_error_before : float
        Mean distance between confidence and accuracy over ten equal bins of confidence, by their items; before the
        head's temperature too.
    calibration : tuple of Bin
        Rising, empty bins left out.
    mistakes : tuple of Mistake
        The most confident ones.
    groups : tuple of GroupScore
        The worst first; empty where none were given.
    gap, gap_interval
        Between the best and the worst group; how far the gap would move with other test items, and how large it is
        without any difference between groups: (low, high) from resampling within groups, and the 95th percentile
        `gap_by_chance` from groups dealt at random.
    """

    balanced_interval: Interval
    f1: float
    f1_interval: Interval
    log_loss: float
    calibration_error: float
    calibration_error_before: float
    calibration: tuple[Bin, ...]
    mistakes: tuple[Mistake, ...]
    groups: tuple[GroupScore, ...] = ()
    gap: float | None = None
    gap_interval: Interval | None = None
    gap_by_chance: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return plain(self)  # type: ignore[no-any-return]


def plain(record: Any) -> Any:
    """A dataclass as plain JSON values: its tuples become lists."""
    value = asdict(record) if is_dataclass(record) and not isinstance(record, type) else record
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def examine(
    truth: Array,
    probabilities: Array,
    classes: Sequence[Label],
    keys: Sequence[str],
    groups: Array | None = None,
    *,
    uncalibrated: Array | None = None,
    seed: int = 0,
) -> Examination:
    """Look closer at the predictions of N test items.

    Parameters
    ----------
    truth : (N,), the labels, all among `classes`.
    probabilities : (N, K), columns as `classes`.
    keys : of the items.
    groups : (N,) text, optional.
    uncalibrated : (N, K), what they were before calibration; None: the same.
    seed : for resampling.
    """
    position = {label: i for i, label in enumerate(classes)}
    codes = np.asarray([position[label] for label in truth.tolist()])
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right, rng = predicted == codes, np.random.default_rng(seed)
    observed = _Counts.of(codes, predicted, len(classes), np.ones((1, len(codes)), dtype=np.int64))
    resampled = _Counts.of(codes, predicted, len(classes), resamples(len(codes), rng))
    error, bins = _calibration(confidence, right)
    raw = probabilities if uncalibrated is None else uncalibrated
    before = _calibration(raw.max(axis=1), right)[0]
    chances = np.clip(probabilities[np.arange(len(codes)), codes], 1e-12, None)
    examined = Examination(
        balanced_interval=interval(resampled.balanced),
        f1=float(observed.f1[0]),
        f1_interval=interval(resampled.f1),
        log_loss=float(-np.log(chances).mean()),
        calibration_error=error,
        calibration_error_before=before,
        calibration=bins,
        mistakes=_mistakes(truth, predicted, confidence, classes, keys),
    )
    return examined if groups is None else replace(examined, **_by_group(right, groups, rng))


@dataclass(frozen=True)
class _Counts:
    """Of each class in each sample, (R, K): items that are right, that carry the label, that were given it."""

    right: Array
    support: Array
    predicted: Array

    @classmethod
    def of(cls, codes: Array, predicted: Array, classes: int, times: Iterable[Array]) -> _Counts:
        """Of samples in which the items (N,) occur so many `times` (N,)."""
        right = codes == predicted
        rows = [
            (
                np.bincount(codes, n * right, classes),
                np.bincount(codes, n, classes),
                np.bincount(predicted, n, classes),
            )
            for n in times
        ]
        return cls(*(np.stack(column) for column in zip(*rows, strict=True)))

    @property
    def balanced(self) -> Array:
        """Mean recall (R,)."""
        return self._mean(self.right / np.maximum(self.support, 1))

    @property
    def f1(self) -> Array:
        """Mean F1 (R,)."""
        return self._mean(2 * self.right / np.maximum(self.support + self.predicted, 1))

    def _mean(self, values: Array) -> Array:
        occurs = self.support > 0
        return np.asarray((values * occurs).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1))


def _calibration(confidence: Array, right: Array) -> tuple[float, tuple[Bin, ...]]:
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for place in range(BINS):
        inside = places == place
        if inside.any():
            bins.append(Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean())))
    return sum(one.items * abs(one.confidence - one.accuracy) for one in bins) / len(right), tuple(bins)


def _mistakes(
    truth: Array, predicted: Array, confidence: Array, classes: Sequence[Label], keys: Sequence[str]
) -> tuple[Mistake, ...]:
    wrong = [i for i, label in enumerate(truth.tolist()) if classes[predicted[i]] != label]
    worst = sorted(wrong, key=lambda i: -confidence[i])[:MISTAKES]
    return tuple(Mistake(str(keys[i]), truth[i].item(), classes[predicted[i]], float(confidence[i])) for i in worst)


def _by_group(right: Array, groups: Array, rng: np.random.Generator) -> dict[str, Any]:
    names, places = np.unique(groups, return_inverse=True)
    items = np.bincount(places)
    hits = np.bincount(places, weights=right)
    scores = [
        GroupScore(str(name), int(n), float(h / n), wilson_interval(int(h), int(n)))
        for name, n, h in zip(names, items, hits, strict=True)
    ]
    scores.sort(key=lambda one: one.accuracy)
    if len(scores) < 2:
        return {"groups": tuple(scores)}
    ends = [int(np.flatnonzero(names == scores[end].group)[0]) for end in (0, -1)]
    worst, best = (rng.binomial(items[end], hits[end] / items[end], RESAMPLES) / items[end] for end in ends)
    dealt = [_widest(rng.permutation(right), places, items) for _ in range(RESAMPLES // 2)]
    return {
        "groups": tuple(scores),
        "gap": scores[-1].accuracy - scores[0].accuracy,
        "gap_interval": interval(best - worst),
        "gap_by_chance": float(np.quantile(dealt, 0.95)),
    }


def _widest(right: Array, places: Array, items: Array) -> float:
    shares = np.bincount(places, weights=right) / items
    return float(shares.max() - shares.min())
