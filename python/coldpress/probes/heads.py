"""Which head, with which setting, on which features: compared on the same folds, then fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError
from coldpress.probes import closed, logistic
from coldpress.probes.candidates import Candidate, best
from coldpress.probes.features import Features

Array = npt.NDArray[Any]

KINDS = ("logistic", *closed.HEADS)
CALIBRATED_ROWS = 100_000
"""Out-of-fold scores that a temperature is fitted on, at most."""


@dataclass(frozen=True)
class Trained:
    """A fitted head.

    Attributes
    ----------
    kind, setting : as of :class:`Candidate`.
    coef, intercept : (K, D) and (K,), of two classes (1, D) and (1,); but both means of ``centroid``.
    temperature : what its scores are divided by before their softmax; None where it gives probabilities by itself.
    features : the name of what it was trained on.
    candidates : all settings compared.
    converged : whether the solver reached its tolerance.
    """

    kind: str
    setting: float | None
    coef: Array
    intercept: Array
    temperature: float | None
    features: str
    candidates: tuple[Candidate, ...]
    converged: bool


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
    """Compare heads on features by cross-validation, and fit the best with all rows.

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
    candidates: list[Candidate] = []
    searches: dict[str, logistic.Search] = {}
    forms: dict[str, closed.ClosedForms] = {}
    fixed = C is not None and len(sources) == 1
    for name, features in sources.items():
        found: list[Candidate] = []
        if "logistic" in kinds and not fixed:
            grid = logistic.C_GRID if C is None else (C,)
            searches[name] = logistic.search_C(features, codes, folds, columns=columns, balanced=balanced, grid=grid)
            found += searches[name].candidates
        if set(kinds) & set(closed.HEADS):
            forms[name] = closed.ClosedForms.of(features, codes, folds, columns=columns, balanced=balanced)
            found += [one for kind in kinds if kind in closed.HEADS for one in forms[name].search(kind)]
        candidates += [replace(one, features=name) for one in found]
    chosen = best(candidates) if candidates else Candidate("logistic", C, 0.0, 0.0, features=next(iter(sources)))
    name, temperature, converged = chosen.features, None, True
    if chosen.head == "logistic":
        start = searches[name].start if name in searches and chosen.setting == searches[name].C else None
        coef, intercept, converged = logistic.fit(
            sources[name], codes, float(chosen.setting or 0), columns=columns, balanced=balanced, start=start
        )
    else:
        coef, intercept = forms[name].fit(chosen.head, chosen.setting)
        if chosen.head != "lda":
            temperature = _temperature(forms[name], chosen)
    return Trained(chosen.head, chosen.setting, coef, intercept, temperature, name, tuple(candidates), converged)


def refit(
    kind: str, setting: float | None, features: Features, codes: Array, *, columns: int, balanced: bool
) -> tuple[Array, Array]:
    """Weights and intercepts of a head of known setting on other items, each class among them."""
    if kind == "logistic":
        return logistic.fit(features, codes, float(setting or 0), columns=columns, balanced=balanced)[:2]
    once = np.zeros(len(codes), dtype=np.int64)
    return closed.ClosedForms.of(features, codes, once, columns=columns, balanced=balanced).fit(kind, setting)


def _temperature(forms: closed.ClosedForms, chosen: Candidate) -> float:
    rows = np.arange(len(forms.codes))
    if len(rows) > CALIBRATED_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, CALIBRATED_ROWS, replace=False))
    some = replace(forms, features=forms.features.take(rows), codes=forms.codes[rows], folds=forms.folds[rows])
    return closed.temperature(some.held_out(chosen.head, chosen.setting), some.codes)


def estimator(kind: str, coef: Array, intercept: Array, classes: Array, setting: float | None) -> Any:
    """The fitted estimator of scikit-learn."""
    if kind == "logistic":
        return logistic.estimator(coef, intercept, classes, float(setting or 0))
    return closed.estimator(kind, coef, intercept, classes, setting)


def scores(kind: str, coef: Array, intercept: Array, X: Array) -> Array:
    """The scores (N, K) of each class, of which the highest is predicted."""
    found = X @ coef.T
    if kind == "centroid":
        return np.asarray(found - 0.5 * (coef**2).sum(axis=1))
    found = found + intercept
    return np.hstack([-found, found]) if found.shape[1] == 1 else np.asarray(found)


NAMES = {
    "logistic": "logistic regression",
    "ridge": "ridge classifier",
    "lda": "linear discriminants",
    "centroid": "nearest centroid",
}
SETTINGS = {"logistic": "C", "ridge": "alpha", "lda": "shrinkage"}


def described(kind: str, setting: float | None) -> str:
    """``logistic regression, C = 1``."""
    return NAMES[kind] if setting is None else f"{NAMES[kind]}, {SETTINGS[kind]} = {setting:.3g}"
