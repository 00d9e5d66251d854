"""Random Fourier features: finitely many numbers a vector whose inner products are the values of a Gaussian kernel.

So the mean of a kernel over any number of rows is one short vector, and rows are compared without a matrix of all.
*Source:* Rahimi and Recht, Random Features for Large-Scale Kernel Machines, 2007; Garreau et al., Large Sample Analysis
of the Median Heuristic, 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError

Floats = npt.NDArray[np.float32]

FREQUENCIES = 512
"""With half as many, or with other bandwidths than the median, real shifts are found as often, within chance."""


@dataclass(frozen=True, eq=False, slots=True)
class RandomFeatures:
    """A map of vectors to features of length 1, for a Gaussian kernel.

    Attributes
    ----------
    frequencies : (D, F) float32.
    """

    frequencies: Floats

    @property
    def dim(self) -> int:
        """D."""
        return int(self.frequencies.shape[0])

    @classmethod
    def fit(cls, rows: Floats, seed: int) -> RandomFeatures:
        """For data of which `rows` (N, D), N at least 2, are a sample: their median distance is the bandwidth."""
        rng = np.random.default_rng([seed, *rows.shape])
        drawn = rng.standard_normal((rows.shape[1], FREQUENCIES)) / median_distance(rows)
        return cls(drawn.astype(np.float32))

    def __call__(self, rows: Floats) -> Floats:
        """Features (N, 2 F) of rows (N, D)."""
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ColdpressError(f"vectors have shape {rows.shape}, expected (N, {self.dim}) as of the reference")
        angles = rows @ self.frequencies
        features = np.empty((len(rows), 2 * angles.shape[1]), np.float32)
        np.cos(angles, out=features[:, : angles.shape[1]])
        np.sin(angles, out=features[:, angles.shape[1] :])
        features *= np.float32(angles.shape[1] ** -0.5)
        return features


def median_distance(rows: Floats) -> float:
    """Median Euclidean distance of different rows; 1 where all are equal."""
    x = rows.astype(np.float64)
    squares = (x**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * x @ x.T
    found = distances[np.triu_indices(len(x), 1)]
    apart = found[found > 1e-12 * max(1.0, float(squares.max()))]
    return float(np.sqrt(np.median(apart))) if len(apart) else 1.0
