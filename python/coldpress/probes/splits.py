"""Which items train and which test: within each class, and with groups never on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError
from coldpress.probes.labels import Labels

Array = npt.NDArray[Any]
FOLDS = 5


def check_classes(labels: Labels, *, least: int) -> None:
    """Refuse labels of fewer than two classes, or with a class of fewer than `least` items."""
    classes, counts = np.unique(labels.values, return_counts=True)
    if len(classes) < 2:
        raise ColdpressError(f"all {len(labels.values)} labels are {classes[0].item()!r}, expected two classes or more")
    rare = [repr(label) for label in classes[counts < least].tolist()]
    if rare:
        raise ColdpressError(
            f"{len(rare)} of {len(classes)} classes have fewer than {least} items ({', '.join(rare[:5])}): label more"
            f" of them or leave these classes out{'; quantities are for task regress' if _numbers(classes) else ''}"
        )


def _numbers(classes: Array) -> bool:
    try:
        return bool(np.isfinite(classes.astype(float)).all())
    except ValueError:
        return False


def check_share(test_size: float) -> None:
    """Refuse a test part that is nothing or everything."""
    if not 0 < test_size < 1:
        raise ColdpressError(f"test_size is {test_size}, expected a share between 0 and 1")


def split(labels: Labels, test_size: float, seed: int, groups: Array | None = None) -> tuple[Labels, Labels]:
    """Into a training and a test part, stratified.

    Each class keeps two training items, so that its strength can be cross-validated, and gives one. With `groups` (N,)
    all items of a group are on one side, and the test part has about the size that was asked for.
    """
    check_share(test_size)
    check_classes(labels, least=3)
    is_test = _stratified(labels, test_size, seed) if groups is None else _grouped(labels, test_size, seed, groups)
    return labels.take(~is_test), labels.take(is_test)


def _stratified(labels: Labels, test_size: float, seed: int) -> npt.NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    is_test = np.zeros(len(labels.rows), dtype=bool)
    for label in np.unique(labels.values):
        members = np.flatnonzero(labels.values == label)
        count = min(max(1, round(test_size * len(members))), len(members) - 2)
        is_test[rng.permutation(members)[:count]] = True
    return is_test


def strata(values: Array) -> npt.NDArray[np.int64]:
    """Numbers (N,) in up to ten parts of equal size, (N,) from 0 on, so that a split takes some of each."""
    parts = max(2, min(10, len(values) // 10))
    found = np.empty(len(values), dtype=np.int64)
    found[np.argsort(values, kind="stable")] = np.arange(len(values)) * parts // len(values)
    return found


def deal_groups(groups: Array, parts: int, seed: int) -> npt.NDArray[np.int64]:
    """The part (N,) of each item, the `groups` (N,) whole and the parts about as large."""
    from sklearn.model_selection import GroupKFold

    count = len(np.unique(groups))
    if count < 2:
        raise ColdpressError("all items are of one group, expected two or more: name another column")
    found = np.empty(len(groups), dtype=np.int64)
    folds = GroupKFold(min(parts, count), shuffle=True, random_state=seed).split(groups, groups=groups)
    for part, (_, inside) in enumerate(folds):
        found[inside] = part
    return found


def deal_labels(answers: Array, shares: Array, seed: int) -> npt.NDArray[np.int64]:
    """The part (N,) of each item, such that each label of `answers` (N, L) is shared out as the `shares` (P,) say.

    The rarest label goes first, each of its items to the part that lacks it most (Sechidis et al. 2011).
    """
    order = np.random.default_rng(seed).permutation(len(answers))
    lacking, room = np.outer(shares, answers.sum(axis=0)), shares * len(answers)
    found = np.full(len(answers), -1, dtype=np.int64)

    def give(items: Array, wanted: Array) -> None:
        for item in items:
            part = int(np.lexsort((room, wanted))[-1])
            found[item] = part
            lacking[part] -= answers[item]
            room[part] -= 1

    for label in np.argsort(answers.sum(axis=0), kind="stable"):
        give(order[(found[order] < 0) & (answers[order, label] > 0)], lacking[:, label])
    give(order[found[order] < 0], room)
    return found


def _grouped(labels: Labels, test_size: float, seed: int, groups: Array) -> npt.NDArray[np.bool_]:
    from sklearn.model_selection import StratifiedGroupKFold

    parts = max(2, round(1 / test_size))
    count = len(np.unique(groups))
    if count < parts:
        raise ColdpressError(f"the items are of {count} groups, expected at least {parts} for a test part of 1/{parts}")
    folds = StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(labels.rows, labels.values, groups)
    is_test = np.zeros(len(labels.rows), dtype=bool)
    is_test[next(iter(folds))[1]] = True
    lost = sorted(set(labels.values.tolist()) - set(labels.values[~is_test].tolist()), key=str)
    if lost:
        raise ColdpressError(f"all groups of class {lost[0]!r} are in the test part: take another seed or test_size")
    return is_test


def fold_numbers(y: Array, seed: int, groups: Array | None = None) -> npt.NDArray[np.int64]:
    """The fold (N,) in which each of the items, of classes y (N,) from 0 on, is held out: stratified, groups whole."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    count = max(2, min(FOLDS, int(np.bincount(y).min())))
    if groups is None:
        splits = StratifiedKFold(count, shuffle=True, random_state=seed).split(y, y)
    else:
        count = min(FOLDS, len(np.unique(groups)))
        splits = StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(y, y, groups)
    numbers = np.empty(len(y), dtype=np.int64)
    for fold, (_, held_out) in enumerate(splits):
        numbers[held_out] = fold
    return numbers
