"""Temperatures: what logits are divided by so that the probabilities made of them are met as often as they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CALIBRATED_ROWS = 100_000
"""Held-out logits that a temperature is fitted on, at most."""


def temperature(logits: Array, codes: Array) -> float:
    """Of the lowest log loss of ``softmax(logits / T)``, logits (N, K) of rows that the head has not seen.

    One row more counts for every class alike, as Platt (1999) does: otherwise logits that are always right would make
    whatever they say certain.
    """
    rows = np.arange(len(codes))

    def loss(scaled: Array) -> float:
        logs = log_softmax(scaled)
        return float(-logs[rows, codes].mean() - logs.mean() / len(codes))

    return _lowest(loss, logits)


def temperature_of_answers(logits: Array, answers: Array) -> float:
    """Of the lowest log loss of ``sigmoid(logits / T)`` for answers (N, L) of 0 and 1; as :func:`temperature`."""
    given = (answers * float(len(answers)) + 0.5) / (len(answers) + 1)

    def loss(scaled: Array) -> float:
        return float((np.logaddexp(0, scaled) - given * scaled).mean())

    return _lowest(loss, logits)


def log_softmax(logits: Array) -> Array:
    """Over the last axis."""
    highest = logits.max(axis=-1, keepdims=True)
    return np.asarray(logits - highest - np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True)))


def softmax(logits: Array) -> Array:
    """Over the last axis."""
    return np.asarray(np.exp(log_softmax(logits)))


def sigmoid(logits: Array) -> Array:
    """Of each."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))


def _lowest(loss: Callable[[Array], float], logits: Array) -> float:
    from scipy.optimize import minimize_scalar

    spread = float(np.std(logits)) or 1.0
    found = minimize_scalar(lambda log: loss(logits / (spread * np.exp(log))), bounds=(-8.0, 8.0), method="bounded")
    return float(spread * np.exp(found.x))
