"""The regularisation path of logistic regression: many values of C for several folds, each warm-started by the last.

L-BFGS from a preconditioner that knows the problem: in the eigenvectors of the features' second moments, the Hessian of
class k is about ``curvature_k * eigenvalue + 1 / C``, in all the rest as its pairs have it. These pairs survive a
change of C, which moves the gradient by a known multiple of the weights; and the next start is extrapolated along the
path. So a step of a quarter of a decade takes one to six passes over the data, where L-BFGS from zero takes hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from coldpress.probes.passes import Problem

PAIRS = 20
MAX_ITERATIONS = 100
_MAX_CUTS = 12
_NOISE = {torch.float32: 2e-6, torch.float64: 1e-14}
"""Of a loss, relatively, from the sum; and 0.03 of it where the loss is 0, from the logarithm of 1 and little more."""

_Pair = tuple[torch.Tensor, torch.Tensor]
"""A step, and what it changed in the gradient of the data."""
_Secant = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""A step, what it changes in the gradient at some C, and 1 over their product, 0 where that is nothing."""


@dataclass(frozen=True)
class Point:
    """The weights (A, D + 1, K) of every fold for one value of C, whether all are minima, and what they say of the rows
    that they have not seen, as :class:`Sums` has it.
    """

    C: float
    V: torch.Tensor
    held_out: torch.Tensor
    converged: bool


@dataclass(eq=False)
class Path:
    """Follows the minima of the problem from one value of C to the next.

    `sizes` (A,) are the sums of sample weights that C counts, as scikit-learn's C does: the objective is the weighted
    mean of the losses plus ``|W|^2 / (2 C size)``, intercepts free.
    """

    problem: Problem
    sizes: torch.Tensor
    _pairs: list[_Pair] = field(default_factory=list)
    _last: list[torch.Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        values, vectors = torch.linalg.eigh(self.problem.gram())
        self._values = torch.cat([values.clamp_min(0), torch.ones(1)]).to(self.problem.dtype)  # that of the intercept
        self._free = torch.ones_like(self._values)[:, None]
        self._free[-1], self._vectors = 1e-12, vectors.to(self.problem.dtype)

    def follow(self, grid: Sequence[float], tolerance: float, start: torch.Tensor | None = None) -> Iterator[Point]:
        """Yield the minima for each C of a geometric `grid`: to about `tolerance` nats, small losses in proportion."""
        shape = (self.problem.models, self.problem.dim + 1, self.problem.columns)
        V = torch.zeros(shape) if start is None else start
        V = V.to(self.problem.dtype)
        for C in grid:
            point = self._minimise(self._ahead(V), C, tolerance)
            V = point.V
            self._last = [*self._last[-2:], V] if point.converged else [V]
            yield point

    def _ahead(self, V: torch.Tensor) -> torch.Tensor:
        """The path up to its second differences, one step on."""
        if len(self._last) < 3:
            return V
        a, b, c = self._last
        return 3 * c - 3 * b + a

    def _minimise(self, V: torch.Tensor, C: float, tolerance: float) -> Point:
        ridge = (1 / (C * self.sizes)).to(V.dtype)[:, None, None]
        everyone = list(range(len(V)))
        loss, data, curvature, held = self._evaluate(V, ridge, everyone)
        scale = curvature[:, None] * self._values[:, None] + ridge * self._free
        pairs = [_secant(s, change, ridge) for s, change in self._pairs]
        for _ in range(MAX_ITERATIONS):
            gradient = data + ridge * _penalised(V)
            direction = self._direction(gradient, pairs, scale)
            decrease = _dot(gradient, direction)  # twice what a quadratic would still lose
            wanted = (tolerance * (4 * loss).clamp(max=1)).clamp_min(0.02 * _NOISE[V.dtype])
            active = (decrease > 2 * wanted).nonzero()[:, 0].tolist()
            if not active:
                return Point(C, V, held, converged=True)
            step = V.new_zeros(len(V))
            step[active] = 1.0
            lower, changed, tested, poor = loss.clone(), data.clone(), held.clone(), step > 0
            for _ in range(_MAX_CUTS):
                moved, tried = V - step[:, None, None] * direction, poor.nonzero()[:, 0].tolist()
                lower[tried], changed[tried], _, tested[tried] = self._evaluate(moved[tried], ridge[tried], tried)
                slope = _dot(changed + ridge * _penalised(moved), direction).abs()
                enough = lower <= loss - 1e-4 * step * decrease
                flatter = (slope <= 0.9 * decrease) & (lower <= loss + _NOISE[V.dtype] * (loss + 0.03))
                poor = ~(enough | flatter) & (step > 0)
                if not poor.any():
                    break
                step = torch.where(poor, 0.4 * step, step)
            else:
                return Point(C, V, held, converged=False)
            self._pairs = [*self._pairs[1 - PAIRS :], (moved - V, changed - data)]
            pairs = [*pairs[1 - PAIRS :], _secant(*self._pairs[-1], ridge)]
            V, loss, data, held = moved, lower, changed, tested
        return Point(C, V, held, converged=False)

    def _evaluate(self, V: torch.Tensor, ridge: torch.Tensor, active: Sequence[int]) -> tuple[torch.Tensor, ...]:
        loss, gradient, curvature, held_out = self.problem.sums(V, active)
        W = _penalised(V)
        return loss + 0.5 * ridge[:, 0, 0] * _dot(W, W), gradient, curvature, held_out

    def _direction(self, gradient: torch.Tensor, pairs: Sequence[_Secant], scale: torch.Tensor) -> torch.Tensor:
        """The two loops of L-BFGS; a fold without curvature along a pair passes over it."""
        q, alphas = gradient.clone(), []
        for s, y, rho in reversed(pairs):
            alphas.append((rho * _dot(s, q))[:, None, None])
            q.addcmul_(alphas[-1], y, value=-1)
        q = self._precondition(q, scale)
        if pairs:
            _, y, rho = pairs[-1]
            short = rho * _dot(y, self._precondition(y, scale))  # above 1: steps would be too long
            q /= short.clamp(1.0, 20.0)[:, None, None]
        for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
            q.addcmul_(alpha - (rho * _dot(y, q))[:, None, None], s)
        return q

    def _precondition(self, v: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        inner = (self._vectors.T @ v[:, :-1]) / scale[:, :-1]
        return torch.cat([self._vectors @ inner, v[:, -1:] / scale[:, -1:]], 1)


def _penalised(V: torch.Tensor) -> torch.Tensor:
    """The weights, 0 for the intercepts."""
    return torch.nn.functional.pad(V[:, :-1], (0, 0, 0, 1))


def _secant(s: torch.Tensor, change: torch.Tensor, ridge: torch.Tensor) -> _Secant:
    y = change + ridge * _penalised(s)
    product = _dot(s, y)
    return s, y, torch.where(product > 1e-20, 1 / product, 0.0)


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of each fold, (A,)."""
    return torch.bmm(a.reshape(len(a), 1, -1), b.reshape(len(b), -1, 1))[:, 0, 0]
