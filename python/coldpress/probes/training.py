"""Which head, with which setting, on which features: compared on the same folds, then fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError
from coldpress.probes import closed, heads, knn, logistic
from coldpress.probes.calibrate import CALIBRATED_ROWS, temperature
from coldpress.probes.candidates import Candidate, best
from coldpress.probes.features import Features
from coldpress.probes.heads import KINDS, Tensors

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Trained:
    """A fitted head.

    Attributes
    ----------
    kind, setting : as of :class:`Candidate`.
    tensors : as of :mod:`coldpress.probes.heads`.
    temperature : what its scores are divided by before their softmax.
    features : the name of what it was trained on.
    candidates : all settings compared.
    converged : whether the solver reached its tolerance.
    """

    kind: str
    setting: float | None
    tensors: Tensors
    temperature: float
    features: str
    candidates: tuple[Candidate, ...]
    converged: bool


@dataclass(frozen=True)
class _Task:
    """The classes (N,) of the training items, from 0 on, the fold in which each is held out, and how they weigh."""

    codes: Array
    folds: Array
    columns: int
    balanced: bool


def train(
    sources: Mapping[str, Features],
    codes: Array,
    folds: Array,
    *,
    columns: int,
    kinds: Sequence[str] = ("logistic",),
    C: float | None = None,
    balanced: bool = False,
) -> Trained:
    """Compare heads on features by cross-validation, fit the best with all rows, and calibrate it on held-out ones.

    Parameters
    ----------
    sources : what to compare, by name: the same items in each.
    codes : (N,) int64, their classes, each of the `columns` from 0 on.
    folds : (N,) int64, in which fold each item is held out.
    kinds : of `KINDS`.
    C : of logistic regression; None: all of the path are compared.
    balanced : weight classes by the inverse of their frequency.
    """
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise ColdpressError(f"there is no head {unknown[0]!r}: expected {', '.join(KINDS)}")
    if C is not None and tuple(kinds) != ("logistic",):
        raise ColdpressError("C was given, which logistic regression alone has: leave it out to compare heads")
    task = _Task(codes, folds, columns, balanced)
    found = {name: _Compared.of(features, task, kinds, C) for name, features in sources.items()}
    candidates = [replace(one, features=name) for name, compared in found.items() for one in compared.candidates]
    chosen = best(candidates)
    tensors, converged, logits, rows = found[chosen.features].take(chosen)
    return Trained(
        kind=chosen.head,
        setting=chosen.setting,
        tensors=tensors,
        temperature=temperature(logits, codes[rows]),
        features=chosen.features,
        candidates=tuple(candidates) if C is None or len(sources) > 1 else (),
        converged=converged,
    )


@dataclass(frozen=True)
class _Compared:
    """What cross-validation has found on some features, and what of that a fit can use."""

    features: Features
    task: _Task
    candidates: tuple[Candidate, ...]
    search: logistic.Search | None
    forms: closed.ClosedForms | None

    @classmethod
    def of(cls, features: Features, task: _Task, kinds: Sequence[str], C: float | None) -> _Compared:
        """Compare the settings of all `kinds`."""
        codes, folds, columns, balanced = task.codes, task.folds, task.columns, task.balanced
        candidates: list[Candidate] = []
        search, forms = None, None
        if "logistic" in kinds:
            grid, warm = (logistic.C_GRID, ()) if C is None else ((C,), logistic.on_the_way(C))
            search = logistic.search_C(features, codes, folds, columns=columns, balanced=balanced, grid=grid, warm=warm)
            candidates += search.candidates
        if set(kinds) & set(closed.HEADS):
            forms = closed.ClosedForms.of(features, codes, folds, columns=columns, balanced=balanced)
            candidates += [one for kind in kinds if kind in closed.HEADS for one in forms.search(kind)]
        if "knn" in kinds:
            candidates += knn.search(features, codes, folds, columns=columns)
        return cls(features, task, tuple(candidates), search, forms)

    def take(self, chosen: Candidate) -> tuple[Tensors, bool, Array, Array]:
        """The fit with all rows, whether it converged, and held-out logits (n, K) with the rows (n,) they are of."""
        task, rows = self.task, knn.drawn(len(self.task.codes), CALIBRATED_ROWS)
        if chosen.head == "knn":
            voters = knn.Neighbours(self.features, task.codes, task.columns, task.folds)
            most = int(knn.MOST_PRODUCTS / (len(self.features) * self.features.dim))
            rows = knn.drawn(len(task.codes), min(CALIBRATED_ROWS, most))
            logits = knn.held_out(voters, int(chosen.setting or 1), rows)
            return heads.neighbours(self.features, task.codes), True, logits, rows
        if chosen.head == "logistic" and self.search is not None:
            logits = heads.spread("logistic", self.search.held_out(self.features.take(rows), task.folds[rows]))
            fitted = logistic.fit(
                self.features,
                task.codes,
                float(chosen.setting or 0),
                columns=task.columns,
                balanced=task.balanced,
                start=self.search.start,
            )
            return heads.linear(*fitted[:2]), fitted[2], logits, rows
        assert self.forms is not None
        some = replace(self.forms, features=self.features.take(rows), codes=task.codes[rows], folds=task.folds[rows])
        tensors = heads.linear(*self.forms.fit(chosen.head, chosen.setting))
        return tensors, True, some.held_out(chosen.head, chosen.setting), rows


def refit(
    kind: str, setting: float | None, features: Features, codes: Array, *, columns: int, balanced: bool
) -> Tensors:
    """A head of known setting on other items, each class among them."""
    if kind == "knn":
        return heads.neighbours(features, codes)
    if kind == "logistic":
        fitted = logistic.fit(features, codes, float(setting or 0), columns=columns, balanced=balanced)
        return heads.linear(*fitted[:2])
    once = np.zeros(len(codes), dtype=np.int64)
    forms = closed.ClosedForms.of(features, codes, once, columns=columns, balanced=balanced)
    return heads.linear(*forms.fit(kind, setting))
