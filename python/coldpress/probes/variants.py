"""Variants of a model side by side: what fewer blocks or patches and coarser arithmetic cost, and what they bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from coldpress.engine.certificate import against_bounds
from coldpress.probes.evaluate import Evaluation
from coldpress.types import Certificate


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left out of a network: arguments of :class:`Extractor`, by their names.

    Attributes
    ----------
    layers : blocks that run, from the first on; None for all.
    merge_tokens : patches of an image that each block merges into others.
    """

    layers: int | None = None
    merge_tokens: int = 0

    @property
    def same_space(self) -> bool:
        """Whether the vectors are to be those of the whole network, so that a cosine with them means something."""
        return self.layers is None

    def __str__(self) -> str:
        layers = "all layers" if self.layers is None else f"{self.layers} layer{'s' * (self.layers > 1)}"
        return f"{layers}, {self.merge_tokens} merged" if self.merge_tokens else layers


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a model.

    Attributes
    ----------
    cut : what is left out.
    certificate : against the fp32 reference of the same cut: what the arithmetic costs.
    items_per_s : of the forward pass alone.
    weight_bytes : what the weights take in memory.
    neighbours, overlap : nearest neighbours looked at, and the share that the whole network in fp32 has too.
    cosine_mean, cosine_min : with its vectors; None where these are another space.
    evaluation : of a linear probe on the same training and test items for every variant; None without labels.
    change, change_interval : of its accuracy from that of the whole network in fp32, with a 95 % interval (low, high).
    optimal : passed its certificate, and no other that did is at least as good in speed, memory and accuracy (without
        labels: overlap), and better in one of them.
    """

    cut: Cut
    certificate: Certificate
    items_per_s: float
    weight_bytes: int
    neighbours: int
    overlap: float
    cosine_mean: float | None
    cosine_min: float | None
    evaluation: Evaluation | None
    change: float | None
    change_interval: tuple[float, float] | None
    optimal: bool

    @property
    def precision(self) -> str:
        """The arithmetic, for people."""
        return self.certificate.label

    @property
    def refused(self) -> str | None:
        """Why no run would take it; None if its certificate passed."""
        return None if self.certificate.passed else against_bounds(self.certificate)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; of the evaluation its headline."""
        tested, interval = self.evaluation, self.change_interval
        return {
            **asdict(self.cut),
            "precision": self.precision,
            "refused": self.refused,
            "optimal": self.optimal,
            "items_per_s": round(self.items_per_s, 1),
            "weight_bytes": self.weight_bytes,
            "neighbours": self.neighbours,
            "neighbour_overlap": self.overlap,
            "cosine_mean": self.cosine_mean,
            "cosine_min": self.cosine_min,
            "accuracy": tested and tested.accuracy,
            "interval": tested and list(tested.interval),
            "balanced_accuracy": tested and tested.balanced_accuracy,
            "change": self.change,
            "change_interval": interval and list(interval),
            "certificate": self.certificate.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Variants of one model on the same items, the whole network in fp32 first.

    `failed` items could not be prepared. `shared_content` counts test items whose content is in the training part too;
    `majority_baseline` is the accuracy of always answering the most frequent class. Both parts are empty if unlabelled.
    """

    variants: tuple[Variant, ...]
    train_items: int
    test_items: int
    majority_baseline: float | None
    failed: int
    shared_content: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        counts = ("train_items", "test_items", "majority_baseline", "failed", "shared_content", "seed")
        return {"variants": [variant.to_json() for variant in self.variants]} | {n: getattr(self, n) for n in counts}


def pareto(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Say of each point, higher is better, whether no other is at least as good throughout and better somewhere.

    Examples
    --------
    >>> pareto([(1, 9), (2, 8), (1, 8), (2, 8)])
    [True, True, False, True]
    """
    return [
        not any(all(b >= a for a, b in zip(one, other, strict=True)) and other != one for other in points)
        for one in points
    ]
