"""Brute force in numpy, and how much of its answer a search has found."""

from __future__ import annotations

import numpy as np


def brute_force(vectors, queries, metric, k):
    """Scores (N, k) float64 and rows (N, k), by falling score and then rising row."""
    x, q = np.asarray(vectors, np.float64), np.asarray(queries, np.float64)
    if metric == "cosine":
        x, q = x / np.linalg.norm(x, axis=1, keepdims=True), q / np.linalg.norm(q, axis=1, keepdims=True)
    scores = q @ x.T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


def nearest_keys(vectors, queries, k, rows=None):
    """Keys (N, k) of a store without keys of its own, by cosine; `rows` are those that may be found."""
    rows = np.arange(len(vectors)) if rows is None else np.asarray(rows)
    _, found = brute_force(vectors[rows], queries, "cosine", k)
    return [[f"item {row}" for row in near] for near in rows[found]]


def overlap(keys, expected):
    """Share of the expected keys (N, k) that are among those found."""
    return np.mean([len({*found} & {*near}) / len(near) for found, near in zip(keys, expected, strict=True)])
