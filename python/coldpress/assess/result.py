"""What an assessment has found, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from coldpress.assess.judge import Scores
from coldpress.assess.paired import Difference
from coldpress.probes.examine import plain

Outcome = Literal["positive", "no", "negative", "undecided"]
RAW, RANDOM = "raw input", "random weights"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Features that were assessed: one output of one store.

    Attributes
    ----------
    name : the output, after its model where there are several stores.
    scores : see :class:`Scores`.
    random : those of the same output of the same network with random weights; None where that could not be run.
    against : by which baseline, how much better the probe is: the evidence.
    behind : how much worse the probe is than that of the best candidate, for all but that one.
    outcome : whether transfer is positive: better than every baseline; negative: worse than one of them.
    """

    name: str
    store: str
    model: str
    output: str
    scores: Scores
    random: Scores | None
    against: Mapping[str, Difference]
    behind: Difference | None
    outcome: Outcome

    @property
    def tied(self) -> bool:
        """Whether it may be as good as the best one."""
        return self.behind is None or not self.behind.worse


@dataclass(frozen=True, slots=True)
class Distance:
    """How far the items of a store are from those that another one of the same space holds.

    Attributes
    ----------
    store, reference, output : what was compared.
    mmd, mmd_p : squared maximum mean discrepancy, and how often items dealt at random are as far apart.
    frechet, variance : squared Frechet distance, None of too few items, and the total variance of the reference.
    proxy_a, proxy_a_interval : proxy A-distance; 0: a linear classifier cannot tell the items apart, 2: it never errs.
    """

    store: str
    reference: str
    output: str
    mmd: float
    mmd_p: float
    frechet: float | None
    variance: float
    proxy_a: float
    proxy_a_interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Assessment:
    """Which features suit the labels, and whether they are worth having.

    Attributes
    ----------
    verdict : one sentence.
    outcome : that of the best candidate.
    candidates : by the accuracy of the probe, the best first.
    raw : scores of the raw input, None where the items were not found.
    lacking : what could not be compared, and why.
    disagreements : sentences, where scores do not say the same.
    items, labelled : so many items were judged, of so many with a label.
    classes : the labels.
    majority : accuracy of always answering the most frequent one.
    folds : of the cross-validation; the same for all.
    cka : linear CKA of the candidates with each other, debiased, in their order; empty of one.
    distances : from the reference, where one was given.
    alpha : error rate of all claims together.
    """

    verdict: str
    outcome: Outcome
    candidates: tuple[Candidate, ...]
    raw: Scores | None
    lacking: Mapping[str, str]
    disagreements: tuple[str, ...]
    items: int
    labelled: int
    classes: tuple[str | int, ...]
    majority: float
    folds: int
    cka: tuple[tuple[float, ...], ...]
    distances: tuple[Distance, ...]
    alpha: float
    seed: int
    seconds: float

    @property
    def best(self) -> Candidate:
        """The candidate with the best probe."""
        return self.candidates[0]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        found: dict[str, Any] = plain(self)
        for one, candidate in zip(found["candidates"], self.candidates, strict=True):
            one["tied"] = candidate.tied
        return {**found, "seconds": round(self.seconds, 3)}
