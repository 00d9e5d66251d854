"""Passes over the rows of a classification problem: loss, gradient and curvature of several linear models at once.

The models, one a fold, differ in which rows they are trained on. A pass multiplies each block of rows by the weights of
all of them, so that it reads the data once; blocks are spread over threads and summed in their order, so that results
do not depend on how many threads there are. Both products run on :func:`coldpress.ops.linear`: on Zen 5 it reaches 245
GFLOP/s a core where the BLAS of torch and numpy reach 90 and 117. Logits lie model by model and class by class, the
rows side by side: the second product takes them as they are, and what is done to each runs along the rows.
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
    targets : (N,) int64, a class of K; or (K, N) float32 of 0 and 1, K yes-or-no questions.
    columns : K.
    weights : (A, N): of each row for each model, the sum over the rows 1.
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
        return len(self.weights)

    def slices(self) -> Iterator[slice]:
        """The blocks."""
        step = max(128, min(2048, BLOCK_BYTES // (4 * self.models * self.columns)))
        return (slice(start, start + step) for start in range(0, len(self.held_by), step))

    def sums(self, V: torch.Tensor, active: Sequence[int]) -> Sums:
        """Loss and gradient of the models `active`, whose weights V are (len(active), D + 1, K)."""
        A, K, D = len(V), self.columns, self.dim
        W = V.permute(0, 2, 1).reshape(A * K, D + 1).contiguous()
        chosen = torch.tensor(active)
        place = torch.full((self.models + 1,), -1)  # of a model among the active ones; the last for -1
        place[chosen] = torch.arange(A)

        def one(rows: slice) -> tuple[torch.Tensor, ...]:
            x, transposed = self._block(rows)
            w, targets = self.weights[:, rows][chosen], self.targets[..., rows]
            Z = self._product(W, x, w.new_zeros(w.shape[1])).view(A, K, -1)
            held_out = verdicts(Z, targets, place[self.held_by[rows]])
            loss, residual, curvature = terms(Z, targets, w)
            flat = residual.view(A * K, -1)
            return loss, self._product(flat, transposed, w.new_zeros(D)), flat.sum(1), curvature, held_out

        loss, gradient, intercept, curvature, held_out = reduce(_add, self.workers.map(one, self.slices()))
        joined = torch.cat([gradient.view(A, K, D).permute(0, 2, 1), intercept.view(A, 1, K)], 1)
        return Sums(loss, joined, curvature, held_out)

    def gram(self) -> torch.Tensor:
        """X^T X / N, (D, D) float64."""

        def one(rows: slice) -> torch.Tensor:
            x = torch.from_numpy(self.read(rows)).to(self.dtype)
            return (x.T @ x).double()

        return reduce(torch.add, self.workers.map(one, self.slices())) / len(self.held_by)

    def _block(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """What multiplies by the rows, with a 1 for the intercept at the end of each, and by their transpose."""
        if (kept := self._kept.get(rows.start)) is not None:
            return kept
        x = torch.from_numpy(self.read(rows)).to(self.dtype)
        block = self._packed(torch.nn.functional.pad(x, (0, 1), value=1.0)), self._packed(x.T)
        if x.element_size() * len(self.held_by) * self.dim <= KEPT_BYTES // 2:
            self._kept[rows.start] = block
        return block

    def _packed(self, weight: torch.Tensor) -> torch.Tensor:
        return pack_weight(weight) if self.dtype == torch.float32 else weight

    def _product(self, x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return linear(x, packed, bias) if self.dtype == torch.float32 else torch.nn.functional.linear(x, packed, bias)


def verdicts(Z: torch.Tensor, targets: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """Of logits Z (A, K, n), by the `model` (n,) that tests each row, or -1: the sums (A, 4) of its rows.

    Of each row 1, its log loss, how many decisions are right, and how many are positive. Where an item has several
    labels, right are those that are positive and should be, and those that are or should be count as positive each:
    twice the one over the other is F1.
    """
    functional, (A, K, n) = torch.nn.functional, Z.shape
    found = torch.zeros(A, 4, dtype=torch.float64)
    tested = model >= 0
    if not tested.any():
        return found
    logits = Z.gather(0, model.clamp_min(0).expand(1, K, n))[0]
    if targets.dim() == 1:
        loss = torch.logsumexp(logits, 0) - logits.gather(0, targets[None])[0]
        right, positive = _highest(logits) == targets, torch.ones_like(loss)
    else:
        loss = functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none").sum(0)
        yes, asked = logits > 0, targets > 0
        right = (yes == asked if K == 1 else yes & asked).sum(0)
        positive = yes.sum(0) + asked.sum(0)
    rows = torch.stack([torch.ones_like(loss), loss, right, positive], 1).double()
    return found.index_add_(0, model[tested], rows[tested])


def _highest(logits: torch.Tensor) -> torch.Tensor:
    """The first place of the highest in each column of (K, n): what argmax says, in a fifth of its time."""
    is_highest = logits == logits.amax(0)
    if (is_highest.sum(0, dtype=torch.int32) > 1).any():
        return logits.argmax(0)
    return torch.arange(len(logits), dtype=torch.int32) @ is_highest.int()


def terms(Z: torch.Tensor, targets: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of logits Z (A, K, n), overwritten, with weights w (A, n): loss (A,), residual (A, K, n), curvature (A, K)."""
    if targets.dim() == 1:
        places = targets.expand(len(Z), 1, -1)
        logs = torch.log_softmax(Z, 1)
        loss = -(logs.gather(1, places)[:, 0] * w).sum(1).double()
        P = logs.exp_()
        curvature = torch.addcmul(P, P, P, value=-1).mul_(w[:, None]).sum(2)
        P.scatter_add_(1, places, torch.full_like(P[:, :1], -1.0))
    else:
        Y = targets.to(Z.dtype).expand_as(Z)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(Z, Y, reduction="none")
        loss = (losses.sum(1) * w).sum(1).double()
        P = Z.sigmoid_()
        curvature = torch.addcmul(P, P, P, value=-1).mul_(w[:, None]).sum(2)
        P = P.sub_(Y)
    return loss, P.mul_(w[:, None]), curvature


def _add(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
    return tuple(x.add_(y) for x, y in zip(a, b, strict=True))
