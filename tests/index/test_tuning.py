"""The cheapest setting that reaches the recall, found in few trials."""

from __future__ import annotations

from math import exp

import pytest

from coldpress.index.tuning import Setting, tune

K_FACTORS = (2, 4, 8, 16, 32, 64)


def cost(setting):
    return 20 * setting.effort + 50 * setting.k_factor


def found_by(limits):
    """Recall that rises with the effort up to what the candidates allow, and the settings it was asked for."""
    asked = []

    def recall(setting):
        asked.append(setting)
        return limits[setting.k_factor] * (1 - exp(-setting.effort / 10))

    return recall, asked


@pytest.mark.parametrize("target", [0.3, 0.6, 0.9, 0.97, 0.985])
def test_the_cheapest_setting_that_reaches_the_target(target):
    recall, asked = found_by(dict(zip(K_FACTORS, (0.5, 0.8, 0.95, 0.98, 0.99, 0.995), strict=True)))
    chosen = tune(recall, most=4096, k_factors=K_FACTORS, cost=cost, target=target)
    trials = list(asked)
    assert recall(chosen) >= target
    every = (Setting(effort, k_factor) for effort in range(1, 200) for k_factor in K_FACTORS)
    assert cost(chosen) <= 1.05 * min(cost(setting) for setting in every if recall(setting) >= target)
    assert len(trials) <= 80
    assert max(setting.effort for setting in trials) <= 512, "where effort no longer helps, no more of it is tried"


def test_what_comes_nearest_where_nothing_reaches_the_target():
    recall, _ = found_by(dict(zip(K_FACTORS, (0.5, 0.6, 0.7, 0.8, 0.9, 0.9), strict=True)))
    assert recall(tune(recall, most=300, k_factors=K_FACTORS, cost=cost, target=0.95)) == pytest.approx(0.9, abs=0.005)


def test_one_that_needs_everything():
    chosen = tune(lambda setting: setting.effort / 100, most=100, k_factors=(1,), cost=cost, target=1.0)
    assert chosen == Setting(100, 1)
