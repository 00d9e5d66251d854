"""What a probe is made by, and what comes of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from coldpress.errors import ColdpressError
from coldpress.probes.candidates import Candidate
from coldpress.probes.evaluate import Evaluation
from coldpress.probes.examine import CurvePoint, Examination, plain
from coldpress.probes.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a probe is trained.

    Attributes
    ----------
    heads : of ``logistic``, ``ridge``, ``lda`` and ``centroid``: the best in cross-validation is taken, by accuracy
        and, on a tie, log loss. Folds are stratified, five where classes are large enough.
    outputs : of the store, to compare in the same way, or ``all``; empty for its first.
    C : inverse strength of logistic regression. None: chosen among 45 values from 1e-6 to 1e5.
    balanced : weight classes by the inverse of their frequency.
    standardize : scale each feature to mean 0 and variance 1 on the training part first. Off by default: embeddings are
        commonly of unit length already, and C adapts to the scale.
    groups : metadata column whose equal values (a patient, a video) never are on both sides of a split or fold.
    seed : for the split and the folds.
    """

    heads: Sequence[str] = ("logistic",)
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


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A trained head and how far to trust it.

    Attributes
    ----------
    head : Head
        Trained on the training part alone, so that `evaluation` is about exactly this head.
    evaluation : Evaluation
        On the test part.
    examination : Examination
        A closer look at the same predictions.
    curve : tuple of CurvePoint
        Accuracy over labels a class; empty where it was not asked for.
    leaks : tuple of (key, key, cosine)
        Test items with a near duplicate in the training part, that item, and how close their vectors are.
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
    seed : int
    seconds : float
    """

    head: Head
    evaluation: Evaluation
    examination: Examination
    curve: tuple[CurvePoint, ...]
    leaks: tuple[tuple[str, str, float], ...]
    leaks_dropped: bool
    candidates: tuple[Candidate, ...]
    features: str
    train_items: int
    test_items: int
    missing_labels: int
    unknown_keys: int
    shared_content: int
    converged: bool
    seed: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Everything but the weights, as plain JSON values."""
        return {
            "classes": list(self.head.classes),
            "model": self.head.model,
            "fingerprint": self.head.fingerprint.digest,
            "standardize": self.head.mean is not None,
            "evaluation": self.evaluation.to_json(),
            "examination": self.examination.to_json(),
            "leaks": [list(pair) for pair in self.leaks],
            "leaks_dropped": self.leaks_dropped,
            "curve": plain(self.curve),
            "head_kind": self.head.kind,
            "setting": self.head.setting,
            "features": self.features,
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "train_items": self.train_items,
            "test_items": self.test_items,
            "missing_labels": self.missing_labels,
            "unknown_keys": self.unknown_keys,
            "shared_content": self.shared_content,
            "converged": self.converged,
            "seed": self.seed,
            "seconds": self.seconds,
        }


def warn(result: ProbeResult) -> None:
    """Log what should not be overlooked."""
    if result.missing_labels:
        logger.warning("%d rows have no label and were skipped", result.missing_labels)
    if result.unknown_keys:
        logger.warning("%d labels name keys that are not in the store", result.unknown_keys)
    if result.shared_content:
        logger.warning(
            "%d of %d test items have the same content as a training item: the accuracy is too optimistic",
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
    if not result.converged:
        logger.warning("the solver did not come to its end: try standardize=True")
