"""The fidelity certificate: vectors of a run against the fp32 reference forward, on the run's own items.

The reference is the same backbone with its fp32 weights and every op replaced by its plain-torch form. A run whose
vectors stray too far is refused before the first shard is written; ``auto`` takes the fastest mode that passes.

Fewer blocks and merged patches are another network, which the user asked for: the reference is of that one, so that the
limits are those of the arithmetic. How far merging itself has moved the vectors is measured beside it, without limits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.engine.compute import Computer
from coldpress.engine.sample import Sample
from coldpress.engine.vectors import Vectors, first_pooled, rows_of
from coldpress.errors import CertificateError
from coldpress.store.encoding import decode, encode
from coldpress.types import Certificate, Rows

MIN_COSINE_MEAN = 0.995
MIN_OVERLAP = 0.95
NEIGHBOURS = 10
MOST_ROWS = 1024

_Matrix = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Yardstick:
    """Vectors of the fp32 reference forward; where it merges patches, also of the one that keeps them all."""

    exact: Vectors
    unmerged: Vectors | None = None


def yardstick(compute: Computer, sample: Sample) -> Yardstick:
    """Compute what the vectors of a sample are measured by."""
    merges = compute.backbone.merge_tokens > 0
    unmerged = compute.reference(sample.exact, merged=False) if merges else None
    return Yardstick(compute.reference(sample.exact), unmerged)


def certify(compute: Computer, sample: Sample, reference: Yardstick | None = None) -> Certificate:
    """Compare the vectors of a sample with the reference forward; the first pooled output stands for all.

    Parameters
    ----------
    compute : what is certified.
    sample : items, at least one.
    reference : of the sample; without it, it is computed here.

    Returns
    -------
    Certificate
        Passed or not; see :func:`require`.
    """
    found = compute(sample.inputs)
    name = first_pooled(found)
    ours = thinned(found[name]).astype(np.float64)
    reference = reference or yardstick(compute, sample)
    exact = thinned(reference.exact[name]).astype(np.float64)
    usable = np.isfinite(exact).all(axis=1)  # an item without a reference fails by itself, see finite_rows
    ours, exact = ours[usable], exact[usable]
    near = closeness(ours, exact)
    certificate = Certificate(
        precision=compute.precision,
        samples=len(ours),
        cosine_mean=round(near.cosine_mean, 7),
        cosine_min=round(near.cosine_min, 7),
        max_abs_error=float(f"{np.abs(ours - exact).max(initial=0.0):.3g}"),
        neighbours=near.neighbours,
        neighbour_overlap=round(near.overlap, 4),
        passed=near.cosine_mean >= MIN_COSINE_MEAN and near.overlap >= MIN_OVERLAP,
        layer_precision=dict(sorted(compute.layer_precision.items())),
    )
    if reference.unmerged is None:
        return certificate
    return with_merging(certificate, ours, thinned(reference.unmerged[name]).astype(np.float64)[usable])


@dataclass(frozen=True, slots=True)
class Closeness:
    """Cosine of vectors with others of the same items, and the share of their nearest `neighbours` that is the same."""

    cosine_mean: float
    cosine_min: float
    neighbours: int
    overlap: float


def closeness(ours: _Matrix, exact: _Matrix) -> Closeness:
    """Compare vectors (N, D) float64 with others of the same items in the same order; none are close to none."""
    cosine = _cosines(ours, exact) if len(ours) else np.ones(1)
    neighbours = max(min(NEIGHBOURS, len(ours) - 1), 0)
    overlap = neighbour_overlap(ours, exact, neighbours) if neighbours > 0 else 1.0
    return Closeness(float(cosine.mean()), float(cosine.min()), neighbours, overlap)


def thinned(vectors: Rows) -> npt.NDArray[np.float32]:
    """The vectors to be compared: all of them, or some of the tokens, evenly spread."""
    rows = rows_of(vectors)
    return rows[:: -(-len(rows) // MOST_ROWS)] if len(rows) > MOST_ROWS else rows


def with_merging(certificate: Certificate, ours: _Matrix, unmerged: _Matrix) -> Certificate:
    """Add how close vectors (N, D) are to those that the network has without merging patches."""
    near = closeness(ours, unmerged)
    return replace(certificate, merged_cosine=round(near.cosine_mean, 7), merged_overlap=round(near.overlap, 4))


def with_storage(certificate: Certificate, vectors: npt.NDArray[np.float32], dtype: str) -> Certificate:
    """Add what storing vectors (N, D) as `dtype` costs: mean cosine with what comes back, and neighbours kept."""
    back = decode(encode(vectors, dtype), dtype, vectors.shape[1]).astype(np.float64)
    near = closeness(back, vectors.astype(np.float64))
    return replace(
        certificate,
        stored_dtype=dtype,
        stored_cosine=round(near.cosine_mean, 7),
        stored_overlap=round(near.overlap, 4),
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """One mode on a sample: its certificate, and its speed there in items per second."""

    mode: str
    certificate: Certificate
    items_per_s: float


def try_mode(compute: Computer, sample: Sample, reference: Yardstick | None = None) -> Trial:
    """Certify a mode, and time it once it is warm; arguments of :func:`certify`."""
    certificate = certify(compute, sample, reference)
    return Trial(certificate.label, certificate, speed(compute, sample))


def speed(compute: Computer, sample: Sample) -> float:
    """Items per second on the sample, of a computer that has run before."""
    start = time.perf_counter()
    compute(sample.inputs)
    return len(sample) / (time.perf_counter() - start)


def require(certificate: Certificate) -> None:
    """Refuse a run whose certificate failed.

    Raises
    ------
    CertificateError
        With what was measured and what is asked.
    """
    if not certificate.passed:
        raise CertificateError(
            f"{certificate.label} vectors are too far from the fp32 reference on {certificate.samples} items: "
            f"{against_bounds(certificate)}; use precision auto, which finds one that passes, or fp32"
        )


def against_bounds(certificate: Certificate) -> str:
    """What was measured beside what is asked."""
    return (
        f"mean cosine {certificate.cosine_mean:.5f} (at least {MIN_COSINE_MEAN}), "
        f"{certificate.neighbours}-NN overlap {certificate.neighbour_overlap:.3f} (at least {MIN_OVERLAP})"
    )


def neighbour_overlap(ours: _Matrix, reference: _Matrix, k: int) -> float:
    """Share of the k nearest neighbours by cosine, (N, D) against (N, D), that both agree on.

    A neighbour whose reference similarity ties with the k-th one counts as agreed: duplicates in the sample have no
    order that could be kept.
    """
    ours, reference = unit(ours), unit(reference)
    near, true = ours @ ours.T, reference @ reference.T
    np.fill_diagonal(near, -np.inf)
    np.fill_diagonal(true, -np.inf)
    chosen = np.argpartition(-near, k - 1, axis=1)[:, :k]
    kth = -np.partition(-true, k - 1, axis=1)[:, k - 1 : k]
    return float((np.take_along_axis(true, chosen, axis=1) >= kth - 1e-6).mean())


def unit(rows: _Matrix) -> _Matrix:
    """Rows (N, D) scaled to length 1; zeros stay zeros."""
    norms: _Matrix = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.asarray(rows / norms)


def _cosines(a: _Matrix, b: _Matrix) -> _Matrix:
    """Cosine of each pair of rows; two zero rows agree."""
    zero = (np.abs(a).max(axis=1) == 0) & (np.abs(b).max(axis=1) == 0)
    return np.where(zero, 1.0, (unit(a) * unit(b)).sum(axis=1))
