"""Values of metadata that some items have more often than others, counted in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldpress.drift.effects import holm

Group = Literal["unlike", "other", "reference"]

DISTINCT = 50
"""Values of a column that are counted; of more, numbers are put into ranges, and texts say nothing."""
SHOWN = 10
_RANGES = 5
_FEWEST = 10  # items of a group that is compared with


@dataclass(frozen=True, slots=True)
class Overrepresented:
    """A value of a column, and the share of items that have it.

    Of the unlike new ones, of the other new ones, and of the reference; None of a group with fewer than ten such items.
    """

    column: str
    value: str
    unlike: float
    other: float | None
    reference: float | None


class Counts:
    """How often each value occurs in each group.

    Parameters
    ----------
    example : rows from which it is seen which columns are worth counting, and where the ranges of numbers lie.
    """

    def __init__(self, example: pa.Table) -> None:
        self._edges: dict[str, npt.NDArray[np.float64] | None] = {}
        for name in example.column_names:
            values = example.column(name).drop_null()
            if pc.count_distinct(values).as_py() <= DISTINCT:
                self._edges[name] = None
            elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
                shares = np.linspace(0, 1, _RANGES + 1)[1:-1]
                self._edges[name] = np.unique(np.quantile(values.to_numpy(), shares))
        self._counts: dict[Group, dict[str, Counter[str]]] = {g: {} for g in ("unlike", "other", "reference")}

    @property
    def columns(self) -> list[str]:
        """Those that are counted."""
        return list(self._edges)

    def add(self, group: Group, table: pa.Table) -> None:
        """Count rows; a column that turns out to have too many values is given up."""
        for name in [name for name in self._edges if name in table.column_names]:
            found = self._counts[group].setdefault(name, Counter())
            found.update(_tally(table.column(name).drop_null(), self._edges[name]))
            if len(found) > 2 * DISTINCT:
                del self._edges[name]

    def overrepresented(self, level: float) -> tuple[Overrepresented, ...]:
        """What the unlike items have more often than the other new ones, or where these are few than the reference.

        The most telling first; each is no chance finding, with probability 1 - `level` for all of them (Holm).
        """
        found: list[tuple[Overrepresented, float, float]] = []
        for name in self._edges:
            unlike, other, reference = (self._counts[g].get(name, Counter()) for g in ("unlike", "other", "reference"))
            base = other if other.total() >= _FEWEST else reference
            if unlike.total() < _FEWEST or base.total() < _FEWEST:
                continue
            for value, count in unlike.items():
                shares = [_share(group, value) for group in (unlike, other, reference)]
                one = Overrepresented(name, value, shares[0] or 0.0, *shares[1:])
                gain = one.unlike - base[value] / base.total()
                found.append((one, gain, _chance(count, unlike.total(), base[value], base.total())))
        kept = holm(np.array([p for _, _, p in found])) <= level
        telling = [
            (one, gain)
            for (one, gain, _), keep in zip(found, kept, strict=True)
            if keep and gain > 0 and one.unlike > (one.reference or 0)
        ]
        return tuple(one for one, _ in sorted(telling, key=lambda pair: -pair[1])[:SHOWN])


def _tally(values: Any, edges: npt.NDArray[np.float64] | None) -> dict[str, int]:
    if edges is None:
        return {str(one["values"]): one["counts"] for one in pc.value_counts(values).to_pylist()}
    places, counts = np.unique(np.searchsorted(edges, values.to_numpy(), side="left"), return_counts=True)
    return {_range(edges, int(place)): int(count) for place, count in zip(places, counts, strict=True)}


def _range(edges: Sequence[float] | npt.NDArray[np.float64], place: int) -> str:
    if place == 0:
        return f"up to {edges[0]:g}"
    if place == len(edges):
        return f"above {edges[-1]:g}"
    return f"{edges[place - 1]:g} to {edges[place]:g}"


def _share(group: Counter[str], value: str) -> float | None:
    return group[value] / total if (total := group.total()) >= _FEWEST else None


def _chance(a: int, n: int, b: int, m: int) -> float:
    """How likely a share of a / n so far above b / m is, if both are alike."""
    pooled = (a + b) / (n + m)
    error = sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return erfc((a / n - b / m) / error / sqrt(2)) / 2 if error else 1.0
