"""Fewer numbers a vector, before it is certified and stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from coldpress import ops
from coldpress.errors import ColdpressError
from coldpress.store import Projection
from coldpress.types import Output


@dataclass(frozen=True, slots=True)
class Reduction:
    """What becomes of the vectors of every output; by default nothing.

    `truncate` keeps the first numbers (of a model trained for that: Matryoshka), `packed` has the components of a
    projection, see :func:`pack`. `normalize` says that the model's vectors have length 1, to which they are then scaled
    again. Those of tokens have not. Row b depends on row b alone, bit for bit.
    """

    truncate: int | None = None
    packed: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    normalize: bool = False

    def __call__(self, output: Output, rows: torch.Tensor) -> torch.Tensor:
        """Rows (N, D) of an output as (N, D') float32."""
        if self.packed:
            weight, bias = (tensor.to(rows.device) for tensor in self.packed[output.name])
            shorter = ops.linear(rows.contiguous(), weight, bias)
        elif self.truncate is not None:
            shorter = rows[:, : self.truncate].contiguous()
        else:
            return rows
        if output.dense or not self.normalize:
            return shorter
        bounds = torch.arange(len(rows) + 1, dtype=torch.int32, device=rows.device)
        return ops.pool(shorter, bounds, "cls", normalize=True)

    def moved(self, device: torch.device) -> Reduction:
        """The same with its components on a device."""
        packed = {name: (weight.to(device), bias.to(device)) for name, (weight, bias) in self.packed.items()}
        return replace(self, packed=packed)

    def dims(self, dims: Mapping[str, int]) -> dict[str, int]:
        """Width of each output afterwards."""
        if self.packed:
            return {name: len(bias) for name, (_, bias) in self.packed.items()}
        return dict(dims) if self.truncate is None else dict.fromkeys(dims, self.truncate)


def pack(projection: Projection | int | None) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Components in the layout of the kernel, with a bias of zero; none of what is yet to be fitted."""
    if not isinstance(projection, Projection):
        return {}
    return {
        name: (ops.pack_weight(torch.from_numpy(matrix.copy())), torch.zeros(len(matrix)))
        for name, matrix in projection.components.items()
    }


def check_reduction(truncate_dim: int | None, pca: int | Projection | None, dims: Mapping[str, int]) -> None:
    """Refuse what cannot be done to outputs of these widths.

    Raises
    ------
    ColdpressError
        If one has fewer numbers than are to be left, or both ways are asked for.
    """
    if truncate_dim is not None and pca is not None:
        raise ColdpressError("truncate_dim and pca are both given, expected one way of making vectors shorter")
    if isinstance(pca, Projection):
        found = {name: matrix.shape[1] for name, matrix in pca.components.items()}
        if found != dict(dims):
            raise ColdpressError(f"pca is a projection of outputs {found}, expected {dict(dims)}: fit it on this model")
        return
    for option, kept in (("truncate_dim", truncate_dim), ("pca", pca)):
        for name, dim in dims.items():
            if kept is not None and not 1 <= kept <= dim:
                raise ColdpressError(f"{option} is {kept}, expected 1 to {dim}, the width of {name}")
