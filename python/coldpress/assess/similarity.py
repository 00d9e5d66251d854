"""How alike two sets of features of the same items are: linear CKA, debiased, streamed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coldpress.probes.features import Features
from coldpress.store.blocks import block_rows


def cka(sources: Sequence[Features]) -> tuple[tuple[float, ...], ...]:
    """Linear CKA of each with each; 1: the same but for turning and scaling, 0: nothing in common.

    Where two are read in step, block by block, no more is kept than the sum of their products. The estimate of HSIC is
    unbiased (Song et al. 2012), so that independent features of many dimensions are near 0, or just below, and not near
    1 as by Kornblith et al. (2019), whose measure this otherwise is.

    Source: Nguyen et al., *Do wide and deep networks learn the same things?* (2021), https://arxiv.org/abs/2010.15327.
    """
    own = [hsic(one, one) for one in sources]
    found = np.eye(len(sources))
    for i, a in enumerate(sources):
        for j in range(i):
            scale = np.sqrt(max(own[i], 0.0) * max(own[j], 0.0))
            found[i, j] = found[j, i] = hsic(a, sources[j]) / scale if scale > 0 else 0.0
    return tuple(tuple(row) for row in found.tolist())


def hsic(a: Features, b: Features) -> float:
    """The unbiased estimate of the Hilbert-Schmidt independence criterion with linear kernels, of N > 3 items.

    With ``d_i = |x_i|^2`` and ``e_i = |y_i|^2`` the kernels without their diagonals have ``tr = |X^T Y|^2 - d e``,
    and the sums of their rows are ``x_i . sum(x) - d_i``: all of it sums over the items.
    """
    count, means = len(a), (a.mean(), b.mean())
    step = min(block_rows(a.dim), block_rows(b.dim))
    products = np.zeros((a.dim, b.dim))
    sum_x, sum_y, x_e, y_d = np.zeros(a.dim), np.zeros(b.dim), np.zeros(a.dim), np.zeros(b.dim)
    total_d = total_e = total_de = 0.0
    for start in range(0, count, step):
        x, y = (one.read(slice(start, start + step)) - mean for one, mean in zip((a, b), means, strict=True))
        d, e = (x**2).sum(axis=1), (y**2).sum(axis=1)
        products += x.T @ y
        sum_x, sum_y, x_e, y_d = sum_x + x.sum(axis=0), sum_y + y.sum(axis=0), x_e + e @ x, y_d + d @ y
        total_d, total_e, total_de = total_d + d.sum(), total_e + e.sum(), total_de + float(d @ e)
    trace = float((products**2).sum()) - total_de
    whole = (float(sum_x @ sum_x) - total_d) * (float(sum_y @ sum_y) - total_e)
    rows = float(sum_x @ products @ sum_y) - float(sum_x @ x_e) - float(sum_y @ y_d) + total_de
    return float(trace + whole / ((count - 1) * (count - 2)) - 2 * rows / (count - 2)) / (count * (count - 3))
