"""Passes over the rows of a classification problem: loss, gradient and curvature of several linear models at once.

The models, one a fold, differ in which rows they are trained on. A pass multiplies each block of rows by the weights of
all of them, so that it reads the data once; blocks are spread over threads and summed in their order, so that results
do not depend on how many threads there are. Both products run on :func:`coldpress.ops.linear`: on Zen 5 it reaches 245
GFLOP/s a core where the BLAS of torch and numpy reach 90 and 117.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from coldpress.ops.linear import linear, pack_weight

BLOCK_BYTES = 2 << 20
"""Of the logits of one block: they are read several times, from the cache."""
KEPT_BYTES = 1 << 30
"""Rows that take no more stay packed in memory between passes; others are read and packed again by each."""

Read = Callable[[slice], npt.NDArray[np.float32]]


class Sums(NamedTuple):
    """Of A models with K columns each, over their training rows: all weighted means.

    loss (A,) float64; gradient (A, D + 1, K), that of the intercept last; curvature (A, K), of the loss in its logits;
    held_out (A, 4), of the rows that a model has not seen, see :func:`verdicts`.
    """

    loss: torch.Tensor
    gradient: torch.Tensor
    curvature: torch.Tensor
    held_out: torch.Tensor


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows, targets, and which of several models is trained on which row.

    Attributes
    ----------
    read : the vectors of some rows, (n, D) float32: finite, and best centred.
    dim : D.
    targets : (N,) int64, a class of K; or (N, K) float32 of 0 and 1, K yes-or-no questions.
    columns : K.
    weights : (N, A): of each row for each model, the sum over the rows 1.
    held_by : (N,) int64, the model that has not seen a row, and which it tests; -1: none.
    workers : single-threaded.
    dtype : float32; or float64, for the last digits.
    """

    read: Read
    dim: int
    targets: torch.Tensor
    columns: int
    weights: torch.Tensor
    held_by: torch.Tensor
    workers: ThreadPoolExecutor
    dtype: torch.dtype = torch.float32
    _kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    @property
    def models(self) -> int:
        """A."""
        return int(self.weights.shape[1])

    def slices(self) -> Iterator[slice]:
        """The blocks."""
        step = max(128, min(2048, BLOCK_BYTES // (4 * self.models * self.columns)))
        return (slice(start, start + step) for start in range(0, len(self.weights), step))

    def sums(self, V: torch.Tensor, active: Sequence[int]) -> Sums:
        """Loss and gradient of the models `active`, whose weights V are (len(active), D + 1, K)."""
        A, D = len(V), self.dim
        packed = self._packed(V[:, :D].permute(0, 2, 1).reshape(A * self.columns, D))
        bias = V[:, D].reshape(-1).contiguous()
        chosen = torch.tensor(active)
        place = torch.full((self.models + 1,), -1)  # of a model among the active ones; the last for -1
        place[chosen] = torch.arange(A)

        def one(rows: slice) -> tuple[torch.Tensor, ...]:
            x, transposed = self._block(rows)
            Z = self._product(x, packed, bias).view(len(x), A, self.columns)
            held_out = self._verdicts(Z, place[self.held_by[rows]], self.targets[rows])
            loss, residual, curvature = terms(Z, self.targets[rows], self.weights[rows][:, chosen])
            flat = residual.view(len(x), -1)
            gradient = self._product(flat.T.contiguous(), transposed, bias.new_zeros(D))
            return loss, gradient, flat.sum(0), curvature, held_out

        loss, gradient, intercept, curvature, held_out = reduce(_add, self.workers.map(one, self.slices()))
        gradient = gradient.view(A, self.columns, D).permute(0, 2, 1)
        joined = torch.cat([gradient, intercept.view(A, 1, self.columns)], 1)
        return Sums(loss, joined, curvature, held_out)

    def _verdicts(self, Z: torch.Tensor, model: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Of logits Z (n, A, K), the model that tests each row (n,) or -1: the sums of what :func:`verdicts` says."""
        found = torch.zeros(Z.shape[1], 4, dtype=torch.float64)
        rows = (model >= 0).nonzero()[:, 0]
        return found.index_add_(0, model[rows], verdicts(Z[rows, model[rows]], targets[rows])) if len(rows) else found

    def gram(self) -> torch.Tensor:
        """X^T X / N, (D, D) float64."""

        def one(rows: slice) -> torch.Tensor:
            x = self._block(rows)[0]
            return (x.T @ x).double()

        return reduce(torch.add, self.workers.map(one, self.slices())) / len(self.weights)

    def _block(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows, and what multiplies by their transpose."""
        if (kept := self._kept.get(rows.start)) is not None:
            return kept
        x = torch.from_numpy(self.read(rows)).to(self.dtype)
        block = x, self._packed(x.T)
        if x.element_size() * len(self.weights) * self.dim <= KEPT_BYTES // 2:
            self._kept[rows.start] = block
        return block

    def _packed(self, weight: torch.Tensor) -> torch.Tensor:
        return pack_weight(weight) if self.dtype == torch.float32 else weight

    def _product(self, x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return linear(x, packed, bias) if self.dtype == torch.float32 else torch.nn.functional.linear(x, packed, bias)


def verdicts(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Of each row of logits (n, K), (n, 4): 1, its log loss, how many decisions are right, how many are positive.

    Where an item has several labels, right are those that are positive and should be, and those that are or should be
    count as positive each: twice the one over the other is F1.
    """
    functional, binary = torch.nn.functional, logits.shape[1] == 1
    if targets.dim() == 1:
        loss = functional.cross_entropy(logits, targets, reduction="none")
        right, positive = logits.argmax(1) == targets, torch.ones_like(loss)
    else:
        loss = functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none").sum(1)
        yes, asked = logits > 0, targets > 0
        right = (yes == asked if binary else yes & asked).sum(1)
        positive = yes.sum(1) + asked.sum(1)
    return torch.stack([torch.ones_like(loss), loss, right, positive], 1).double()


def terms(Z: torch.Tensor, targets: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of logits Z (n, A, K), overwritten, with weights w (n, A): loss (A,), residual (n, A, K), curvature (A, K)."""
    w = w.to(Z.dtype)
    if targets.dim() == 1:
        places = targets[:, None, None].expand(-1, Z.shape[1], 1)
        logs = torch.log_softmax(Z, 2)
        loss = -(logs.gather(2, places)[..., 0] * w).sum(0).double()
        P = logs.exp_()
        curvature = torch.addcmul(P, P, P, value=-1).mul_(w[..., None]).sum(0)
        P.scatter_add_(2, places, torch.full_like(P[..., :1], -1.0))
    else:
        Y = targets[:, None, :].expand_as(Z)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(Z, Y.to(Z.dtype), reduction="none")
        loss = (losses.sum(2) * w).sum(0).double()
        P = Z.sigmoid_()
        curvature = torch.addcmul(P, P, P, value=-1).mul_(w[..., None]).sum(0)
        P = P.sub_(Y)
    return loss, P.mul_(w[..., None]), curvature


def _add(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
    return tuple(x.add_(y) for x, y in zip(a, b, strict=True))
