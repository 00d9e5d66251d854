"""Settling the arithmetic of a run on a sample of its data.

Modes are tried from the fastest on. One that fails its certificate is tried again with the layers that hurt most in the
next mode. That adds, to the certificate of a mode: one forward and one backward pass of the fp32 network over the
sample, and as many forwards of the mode as it takes to halve the number of layers down to the fewest, five for the 48
of a ViT-B. One forward is all that is lost on a network that cannot be rescued so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from coldpress.engine.certificate import Trial, Yardstick, speed, try_mode, yardstick
from coldpress.engine.compute import Computer
from coldpress.engine.precision import Choice, choose_layers, choose_precision
from coldpress.engine.sample import Sample
from coldpress.engine.sensitivity import LayerCost, layer_costs
from coldpress.errors import StoreError
from coldpress.models import Backbone
from coldpress.store import EmbeddingStore
from coldpress.types import Certificate

MOST_WORK = 0.25
"""Share of the multiply-adds that may run in a higher mode.

With a quarter of its products in int16, int8 takes 0.31 of the time of fp32, and int16 throughout 0.5 of it; int16 with
a quarter in fp32 takes 0.63.
"""

Build = Callable[[Choice], Computer]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to compute that was tried on a sample."""

    choice: Choice
    compute: Computer
    trial: Trial

    @property
    def passed(self) -> bool:
        """Whether its certificate did."""
        return self.trial.certificate.passed


@dataclass(frozen=True, slots=True)
class Decision:
    """The mode that was taken, what runs in it, and everything that was tried, in order."""

    choice: Choice
    compute: Computer
    trials: tuple[Trial, ...]

    @property
    def certificate(self) -> Certificate:
        """The certificate of the mode that was taken."""
        return self.trials[-1].certificate


def first_passing(candidates: Sequence[Choice], build: Build, sample: Sample) -> Decision:
    """Take the first of :func:`attempts` whose certificate passes, else the last one, passed or not.

    The reason of the choice names what failed.
    """
    trials: list[Trial] = []
    failed: list[str] = []
    for attempt in attempts(candidates, build, sample):
        trials.append(attempt.trial)
        slower = _slower(attempt, candidates[-1], build, sample) if attempt.passed else None
        if attempt.passed and slower is None:
            break
        failed.append(slower or _shortfall(attempt.trial.certificate))
    choice, compute = attempt.choice, attempt.compute
    why = choice.reason if choice.layers or not failed else "the next mode"
    return Decision(Choice(choice.mode, "; ".join([*failed, why]), choice.layers), compute, tuple(trials))


def attempts(candidates: Sequence[Choice], build: Build, sample: Sample) -> Iterator[Attempt]:
    """Try each mode on the sample, and one that fails with some layers in the next mode as well.

    Parameters
    ----------
    candidates : modes, the fastest first and fp32 last.
    build : makes the computer of a choice.
    """
    reference: Yardstick | None = None
    higher: Computer | None = None
    for number, choice in enumerate(candidates):
        compute, higher = higher or build(choice), None
        if reference is None:
            reference = yardstick(compute, sample)
        plain = Attempt(choice, compute, try_mode(compute, sample, reference))
        yield plain
        if not plain.passed and number + 1 < len(candidates) and not compute.backbone.calibrated:
            higher = build(candidates[number + 1])
            is_exact = number + 2 == len(candidates)
            costs = layer_costs(compute, higher if is_exact else build(candidates[-1]), sample.inputs)
            if costs:
                yield fewest_layers(plain, higher, costs, sample, reference)


def fewest_layers(
    plain: Attempt, higher: Computer, costs: Mapping[str, LayerCost], sample: Sample, reference: Yardstick
) -> Attempt:
    """Try what failed with the worst layers in a `higher` mode: the fewest that make it pass, or all that may be."""
    ranked = worst_layers(costs)

    def attempt(count: int) -> Attempt:
        compute = plain.compute.with_layers(sorted(ranked[:count]), higher)
        reason = f"with {count} of {len(costs)} linear layers in {higher.precision} it passed"
        excepted = Choice(plain.choice.mode, reason, compute.layer_precision)
        return Attempt(excepted, compute, try_mode(compute, sample, reference))

    best = attempt(len(ranked))
    too_few, enough = 0, len(ranked)
    while best.passed and enough - too_few > 1:
        middle = (too_few + enough) // 2
        if (fewer := attempt(middle)).passed:
            best, enough = fewer, middle
        else:
            too_few = middle
    return best


def worst_layers(costs: Mapping[str, LayerCost]) -> list[str]:
    """Layers by what they cost for their work, the worst first, up to :data:`MOST_WORK` of all work."""
    room = MOST_WORK * sum(cost.macs for cost in costs.values())
    chosen = []
    for name in sorted(costs, key=lambda name: (-costs[name].loss / max(costs[name].macs, 1), name)):
        if costs[name].macs <= room:
            room -= costs[name].macs
            chosen.append(name)
    return chosen


def stored_choice(locations: Sequence[str | Path | None], backbone: Backbone, device: str) -> Choice | None:
    """How the first of these stores that exists was computed: what continues or reuses it has to do the same.

    Raises
    ------
    ColdpressError
        If its mode, or that of one of its layers, is not available for this backbone on this device.
    """
    for location in locations:
        if location is not None:
            try:
                fields = EmbeddingStore(location).fingerprint.fields
            except StoreError:  # none there; one that is damaged is told about when it is opened to be used
                continue
            choice = choose_precision(str(fields["precision"]), backbone.precisions, device)
            choice = replace(choice, reason=f"as in {location}", calibration=fields.get("calibration"))
            layers = fields.get("layer_precision", {})
            return choose_layers(choice, layers, backbone.linears(), backbone.precisions, device)
    return None


def _slower(attempt: Attempt, exact: Choice, build: Build, sample: Sample) -> str | None:
    """Say that a calibrated mode, which runs in somebody else's kernels, is no faster than fp32, if it is not."""
    if attempt.choice.mode not in attempt.compute.backbone.calibrated or exact.mode == attempt.choice.mode:
        return None
    compute = build(exact)
    compute(sample.inputs)
    ours, theirs = attempt.trial.items_per_s, speed(compute, sample)
    if ours > theirs:
        return None
    return f"{attempt.choice.mode} is no faster ({ours:.1f} items/s, {exact.mode} {theirs:.1f})"


def _shortfall(certificate: Certificate) -> str:
    return (
        f"{certificate.label} failed its certificate (mean cosine {certificate.cosine_mean:.5f}, "
        f"{certificate.neighbours}-NN overlap {certificate.neighbour_overlap:.3f})"
    )
