"""How hard a search has to work for the recall that was asked for: bisection over what faiss lets one turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

K_FACTORS = (2, 4, 8, 16, 32, 64)
SATURATED = 0.002
"""Gain of recall from twice the effort, below which more candidates are looked at again instead."""

CANDIDATE_COST = 5.0
"""Looking again at one candidate takes as long as reading 5 times its dimensions in bytes of 4-bit codes.

200,000 x 384: 0.17 us a candidate, 0.085 ns a byte of codes.
"""


@dataclass(frozen=True)
class Setting:
    """Lists to probe or candidates of a graph, and candidates looked at again for each neighbour."""

    effort: int
    k_factor: int


def tune(
    recall: Callable[[Setting], float],
    *,
    most: int,
    k_factors: tuple[int, ...],
    cost: Callable[[Setting], float],
    target: float,
) -> Setting:
    """The cheapest setting whose recall reaches `target`; where none does, the one that comes nearest to it.

    Parameters
    ----------
    recall : of a setting, measured; more effort finds more.
    most : the highest effort there is.
    k_factors : to try, ascending.
    cost : of a setting, in any unit; decides by counting, so that the same data always get the same setting.
    """
    reached: list[Setting] = []
    best, best_recall = Setting(most, k_factors[-1]), -1.0
    for k_factor in k_factors:
        limit = most
        if reached:  # no use in what costs more than is known to do
            cheapest = min(cost(setting) for setting in reached)
            while limit > 1 and cost(Setting(limit, k_factor)) > cheapest:
                limit = limit * 3 // 4
        gain = -1.0 if k_factor == k_factors[-1] else SATURATED
        found, found_recall = least_effort(recall, k_factor, limit, target, gain)
        if found_recall >= target:
            reached.append(Setting(found, k_factor))
        elif found_recall > best_recall:
            best, best_recall = Setting(found, k_factor), found_recall
    return min(reached, key=cost) if reached else best


def least_effort(
    recall: Callable[[Setting], float], k_factor: int, most: int, target: float, gain: float
) -> tuple[int, float]:
    """The smallest effort in 1..most that reaches `target`, and its recall, to one part in 32.

    Where none does, or twice the effort brings no more than `gain`, the last effort tried and its recall: too few
    candidates are looked at again for any effort to help.
    """
    low, high, before = 0, 1, -1.0
    reached = recall(Setting(high, k_factor))
    while high < most and reached < target and reached > before + gain:
        low, high, before = high, min(2 * high, most), reached
        reached = recall(Setting(high, k_factor))
    while reached >= target and high - low > max(1, high // 32):
        middle = (low + high) // 2
        tried = recall(Setting(middle, k_factor))
        if tried < target:
            low = middle
        else:
            high, reached = middle, tried
    return high, reached
