"""What is said beside accuracy, against scikit-learn and simulation."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from sklearn import metrics

from coldpress.probes.curve import learning_curve
from coldpress.probes.examine import examine


def simulated(items, rng, sharpness=2.0):
    """Labels that are as probable as the probabilities say."""
    logits = sharpness * rng.normal(size=(items, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = (chances.cumsum(axis=1) < rng.random((items, 1))).sum(axis=1)
    return codes, chances


def look(codes, chances, groups=None, seed=0):
    return examine(codes, chances, [0, 1, 2], [f"item {i}" for i in range(len(codes))], groups, seed=seed)


def test_measures_are_scikit_learns_and_all_is_json():
    codes, chances = simulated(500, np.random.default_rng(0))
    found = look(codes, chances)
    assert found.f1 == pytest.approx(metrics.f1_score(codes, chances.argmax(axis=1), average="macro"))
    assert found.log_loss == pytest.approx(metrics.log_loss(codes, chances))
    assert found.f1_interval[0] < found.f1 < found.f1_interval[1]
    assert json.loads(json.dumps(found.to_json()))["groups"] == []
    assert look(codes, chances) == found


def test_resampled_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    codes, chances = simulated(200_000, rng)
    truth = metrics.f1_score(codes, chances.argmax(axis=1), average="macro")
    covered = 0
    for start in range(0, 100 * 300, 300):
        low, high = look(codes[start : start + 300], chances[start : start + 300]).f1_interval
        covered += low <= truth <= high
    assert covered >= 88


def test_honest_probabilities_are_calibrated_and_boasting_ones_are_not():
    codes, chances = simulated(5000, np.random.default_rng(2))
    assert look(codes, chances).calibration_error < 0.02
    boasting = chances**4 / (chances**4).sum(axis=1, keepdims=True)
    found = look(codes, boasting)
    assert found.calibration_error > 0.15
    assert sum(one.items for one in found.calibration) == 5000


def test_the_most_confident_mistakes_come_with_their_items():
    codes, chances = simulated(400, np.random.default_rng(3))
    found = look(codes, chances).mistakes
    predicted = chances.argmax(axis=1)
    wrong = np.flatnonzero(predicted != codes)
    assert found[0].probability == pytest.approx(chances[wrong].max())
    assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)
    for one in found:
        i = int(one.key.split()[1])
        assert (one.label, one.prediction) == (codes[i], predicted[i])


def test_a_gap_between_groups_is_told_from_chance():
    rng = np.random.default_rng(4)
    alarms = 0
    for seed in range(60):
        codes, chances = simulated(400, rng)
        found = look(codes, chances, rng.choice(["a", "b", "c"], 400), seed)
        alarms += found.gap > found.gap_by_chance
    assert alarms <= 8
    codes, chances = simulated(400, rng)
    groups = np.where(np.arange(400) < 100, "rare", "common")
    chances[:100] = rng.dirichlet([1, 1, 1], 100)
    found = look(codes, chances, groups)
    assert [one.group for one in found.groups] == ["rare", "common"]
    assert found.gap > found.gap_by_chance
    assert found.gap_interval[0] > 0


def test_the_learning_curve_draws_as_many_of_each_class_as_it_says():
    codes = np.repeat([0, 1, 2], [20, 9, 3])
    seen = []

    def learn(rows):
        seen.append(np.bincount(codes[rows], minlength=3).tolist())
        return len(rows) / 32

    points = learning_curve(codes, learn, repeats=2)
    assert [one.per_class for one in points] == [1, 2, 4, 8, 16, None]
    assert seen[::2] == [[1, 1, 1], [2, 2, 2], [4, 4, 3], [8, 8, 3], [16, 9, 3], [20, 9, 3]]
    assert points[-1].accuracy == 1
    assert json.dumps([asdict(one) for one in points])
