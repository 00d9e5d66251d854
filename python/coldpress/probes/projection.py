"""Vectors in the plane, for looking at them: near ones stay near, distances between clusters mean little."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError

MAX_ROWS = 10_000
COMPONENTS = 50
PERPLEXITY = 30.0


def project(vectors: npt.NDArray[Any], *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Lay vectors out in two dimensions: principal components, then t-SNE from their first two.

    Parameters
    ----------
    vectors : ndarray, shape (N, D)
        At least 4 and at most `MAX_ROWS` rows; 2,000 x 384 take about 5 s on two cores.
    seed : int
        The same vectors and seed give the same map.

    Returns
    -------
    ndarray, shape (N, 2), float32

    Raises
    ------
    ColdpressError
        Too few or too many rows.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows = len(vectors)
    if not 4 <= rows <= MAX_ROWS:
        raise ColdpressError(f"a map takes 4 to {MAX_ROWS:,} vectors, got {rows:,}: draw a sample")
    values = np.asarray(vectors, dtype=np.float32)
    values = np.pad(values, ((0, 0), (0, max(0, 2 - values.shape[1]))))  # numbers alone lie on a line
    components = min(COMPONENTS, *values.shape)
    reduced = PCA(components, random_state=seed).fit_transform(values)
    perplexity = min(PERPLEXITY, (rows - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
    return np.asarray(tsne.fit_transform(reduced), dtype=np.float32)
