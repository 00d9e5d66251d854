"""What a probe is made by, and what comes of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from coldpress.errors import ColdpressError
from coldpress.probes.candidates import Candidate
from coldpress.probes.curve import CurvePoint
from coldpress.probes.evaluate import Evaluation
from coldpress.probes.examine import Examination, plain
from coldpress.probes.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a probe is trained.

    Attributes
    ----------
    heads : of ``logistic``, ``ridge``, ``lda``, ``centroid`` and ``knn``: the best in cross-validation is taken, by
        accuracy and, on a tie, log loss. Folds are stratified, five where classes are large enough. Empty:
        ``logistic``.
    outputs : of the store, to compare in the same way, or ``all``; empty for its first.
    C : inverse strength of logistic regression. None: chosen among 45 values from 1e-6 to 1e5.
    balanced : weight classes by the inverse of their frequency.
    standardize : scale each feature to mean 0 and variance 1 on the training part first. Off by default: embeddings are
        commonly of unit length already, and C adapts to the scale.
    groups : metadata column whose equal values (a patient, a video) never are on both sides of a split or fold.
    seed : for the split and the folds.
    """

    heads: Sequence[str] = ()
    outputs: Sequence[str] = ()
    C: float | None = None
    balanced: bool = False
    standardize: bool = False
    groups: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.C is not None and not (np.isfinite(self.C) and self.C > 0):
            raise ColdpressError(
                f"C is {self.C}, expected a positive number: leave it out to choose it by cross-validation"
            )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Conditions:
    """How a head came about, whatever it predicts.

    Attributes
    ----------
    head : Head
        Trained on the training part alone, so that what is said of the test part is about exactly this head.
    leaks : tuple of (key, key, cosine)
        Test items with a near duplicate in the training part, that item, and how close their vectors are.
    leaks_compared : int
        Test items that were looked at for them: all, but where there are very many, a draw.
    leaks_dropped : bool
        Whether they were left out of the test.
    candidates : tuple of Candidate
        The heads, settings and features compared; empty where there was no choice.
    features : str
        The name of the chosen store and output among several.
    train_items, test_items : int
    missing_labels : int
        Rows without a label, skipped, in both stores.
    unknown_keys : int
        Labels for keys that no store holds.
    shared_content : int
        Test items whose content occurs in the training part too, by ``content_hash``: they make the result look
        better than it is.
    converged : bool
        Whether the solver reached its tolerance.
    balanced : bool
        Whether classes were weighted by the inverse of their frequency.
    seed : int
    seconds : float
    """

    head: Head
    leaks: tuple[tuple[str, str, float], ...]
    leaks_compared: int
    leaks_dropped: bool
    candidates: tuple[Candidate, ...]
    features: str
    train_items: int
    test_items: int
    missing_labels: int
    unknown_keys: int
    shared_content: int
    converged: bool
    balanced: bool
    seed: int
    seconds: float

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.head!r}, trained on {self.train_items}, tested on {self.test_items} items)"

    def conditions_json(self) -> dict[str, Any]:
        """All of the above but the arrays of the head, as plain JSON values."""
        plain_values = {entry.name: getattr(self, entry.name) for entry in fields(Conditions) if entry.name != "head"}
        return {
            **plain(plain_values),
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "classes": list(self.head.classes),
            "model": self.head.model,
            "fingerprint": self.head.fingerprint.digest,
            "standardize": self.head.mean is not None,
            "task": self.head.task,
            "head_kind": self.head.kind,
            "setting": self.head.setting,
            "temperature": self.head.temperature,
            "head_bytes": self.head.nbytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProbeResult(Conditions):
    """A trained classifier and how far to trust it.

    Attributes
    ----------
    evaluation : Evaluation
        On the test part.
    examination : Examination
        A closer look at the same predictions.
    curve : tuple of CurvePoint
        Accuracy over labels a class; empty where it was not asked for.
    """

    evaluation: Evaluation
    examination: Examination
    curve: tuple[CurvePoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything but the weights, as plain JSON values."""
        return {
            **self.conditions_json(),
            "evaluation": self.evaluation.to_json(),
            "examination": self.examination.to_json(),
            "curve": plain(self.curve),
        }


def warn(result: Conditions) -> None:
    """Log what should not be overlooked."""
    if result.missing_labels:
        logger.warning("%d rows have no label and were skipped", result.missing_labels)
    if result.unknown_keys:
        logger.warning("%d labels name keys that are not in the store", result.unknown_keys)
    if result.shared_content:
        logger.warning(
            "%d of %d test items have the same content as a training item: the result is too optimistic",
            result.shared_content,
            result.test_items,
        )
    if result.leaks and not result.leaks_dropped:
        logger.warning(
            "%d of %d test items have a near duplicate in the training part, such as %s of %s: leave them out with"
            " drop_leaks (--drop-leaks)",
            len(result.leaks),
            result.test_items,
            *result.leaks[0][:2],
        )
    if result.leaks_compared < result.test_items:
        logger.warning(
            "near duplicates were looked for among %d of %d test items, drawn at random: there are about %.1f times as"
            " many",
            result.leaks_compared,
            result.test_items,
            result.test_items / result.leaks_compared,
        )
    if not result.converged:
        logger.warning("the solver did not come to its end: try standardize=True")
