"""From scores and paired differences to one sentence, and to what it must not hide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from coldpress.assess.judge import Scores
from coldpress.assess.paired import Difference
from coldpress.assess.result import RANDOM, RAW, Candidate, Outcome

Value = Callable[[Scores], float]

OTHER_SCORES: Mapping[str, Value] = {
    "LogME": lambda scores: scores.log_me,
    "H-score": lambda scores: scores.h_score_shrunk,
    "NLEEP": lambda scores: scores.nleep,
    "kNN": lambda scores: scores.knn.accuracy,
}
_BASELINES = {RAW: "raw input", RANDOM: "the same network with random weights"}


def outcome_of(against: Mapping[str, Difference]) -> Outcome:
    """Of the differences to each baseline."""
    if not against:
        return "undecided"
    if any(one.worse for one in against.values()):
        return "negative"
    return "positive" if all(one.better for one in against.values()) else "no"


def sentence(candidates: Sequence[Candidate], lacking: Mapping[str, str]) -> str:
    """What the user wanted to know, with the numbers that it rests on."""
    best = candidates[0]
    accuracy = f"a probe on {best.name} gets {best.scores.probe.accuracy:.1%} of unseen items right"
    evidence = " and ".join(
        f"{_points(one)} {_BASELINES[name]}{'' if one.better or one.worse else ' (may be chance)'}"
        for name, one in best.against.items()
    )
    without = "".join(
        f"; {_BASELINES[name]} could not be compared: {why}"
        for name, why in lacking.items()
        if name not in best.against
    )
    said = {
        "undecided": f"UNDECIDED: {accuracy}, and there is nothing to compare that with",
        "positive": f"POSITIVE TRANSFER: {accuracy}, {evidence}",
        "negative": f"NEGATIVE TRANSFER: {accuracy}, {evidence}",
        "no": f"NO TRANSFER shown: {accuracy}, {evidence}",
    }
    return f"{said[best.outcome]}{without}."


def _points(one: Difference) -> str:
    """``4.3 points (1.0 to 7.6) more than``."""
    low, high = (100 * end for end in one.interval)
    sign = -1 if one.change < 0 else 1
    low, high = sorted((sign * low, sign * high))
    return f"{abs(100 * one.change):.1f} points ({low:.1f} to {high:.1f}) {'less' if sign < 0 else 'more'} than"


def disagreements(candidates: Sequence[Candidate], raw: Scores | None, knn: Mapping[str, Difference]) -> list[str]:
    """Sentences on scores that rank another candidate first, or see the baselines otherwise.

    `knn` is, for each baseline, how much better the neighbours of the best candidate are.
    """
    best = candidates[0]
    found, first = [], dict[str, list[str]]()
    for name, value in OTHER_SCORES.items():
        other = max(candidates, key=lambda one: value(one.scores))
        if value(other.scores) > value(best.scores):
            first.setdefault(other.name, []).append(name)
    for one in candidates:
        if one.behind is not None and one.name in first:
            lead = f"{abs(100 * one.behind.change):.1f} points more{', which may be chance' if one.tied else ''}"
            found.append(f"{_listed(first[one.name], 'rank')} {one.name} first, the probe {best.name} ({lead})")
    for baseline, change in best.against.items():
        near = knn[baseline]
        if (change.better and near.worse) or (change.worse and near.better):
            found.append(f"Neighbours see it otherwise than the probe: {_points(near)} {_BASELINES[baseline]}")
        theirs = raw if baseline == RAW else best.random
        others = [
            name
            for name, value in OTHER_SCORES.items()
            if name != "kNN" and theirs is not None and _opposite(change, value(best.scores) - value(theirs))
        ]
        if others:
            ours, probe = ("above", "below") if change.better else ("below", "above")
            found.append(f"{_listed(others, 'put')} {_BASELINES[baseline]} {ours} {best.name}, the probe {probe} it")
    return found


def _listed(names: Sequence[str], verb: str) -> str:
    """``LogME ranks``, ``LogME, H-score and NLEEP rank``."""
    if len(names) == 1:
        return f"{names[0]} {verb}s"
    return f"{', '.join(names[:-1])} and {names[-1]} {verb}"


def _opposite(probe: Difference, other: float) -> bool:
    return (probe.better and other < 0) or (probe.worse and other > 0)
