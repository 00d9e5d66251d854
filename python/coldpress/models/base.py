"""What the engine knows about a backbone: the interface that every family implements."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

import torch
from torch import nn

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.layers import STORED, Linear
from coldpress.types import Batch, Modality, Output, Spec, mode_label

AnyModule = TypeVar("AnyModule", bound=nn.Module)

WeightMap = Mapping[str, Sequence[str]]
"""Name of one of our parameters -> the checkpoint tensors it is made of, joined along the first axis."""


Calibration = Mapping[str, Sequence[float]]
"""What a quantised network has learnt from a sample: the range of the input of each layer, by its name."""


class Backbone(nn.Module, ABC):
    """A frozen network that turns packed batches into one vector an item.

    Attributes
    ----------
    modality : what it takes.
    width : D, the length of a token vector.
    depth : number of blocks; ``layer:1`` .. ``layer:<depth>`` are their outputs.
    pooling, normalize : what the model's own files say about turning tokens into a vector.
    precisions : arithmetic it can be prepared for.
    calibrated : those of them that need a sample of the data first.
    dense : what the output is called that is a vector for every token, where it has one.
    batch_parallel : on a CPU, several threads may compute a batch each at once.
    prepared : the one it was prepared for.
    layer_precision : what some of its layers were prepared for instead, by name.
    merge_tokens : patches that each block merges into others; 0 where it merges none.
    padded : on a GPU batches are filled up to one shape, because its products would differ in their bits otherwise.
    captured : those of one shape take the same steps, none of which waits for the GPU: they become a CUDA graph.
    head : maps behind the pooling of the model's own vector, see :mod:`coldpress.models.heads`; it says its `width`.
    """

    modality: Modality
    width: int
    depth: int
    pooling: ops.Pooling
    normalize: bool
    precisions: tuple[str, ...] = ("fp32",)
    calibrated: tuple[str, ...] = ()
    dense: str | None = None
    batch_parallel: bool = True
    prepared: str | None = None
    layer_precision: Mapping[str, str] = MappingProxyType({})
    merge_tokens: int = 0
    padded: bool = True
    captured: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.head: nn.Module | None = None

    @abstractmethod
    def forward(self, batch: Batch, outputs: Sequence[Output]) -> dict[str, torch.Tensor]:
        """Return each output as (B, D) float32. Row b depends on item b alone, bit for bit (on one device).

        Of a dense output the rows of all items are one below the other, (T, D).
        """

    def dim(self, output: Output) -> int:
        """Return D of an output."""
        return self.width if self.head is None or not output.own else cast(int, self.head.width)

    @property
    def weight_bytes(self) -> int:
        """What its weights take in memory, in the precision that they are prepared for."""
        return sum(tensor.nbytes for tensor in chain(self.parameters(), self.buffers()))

    def unmerged(self) -> Backbone:
        """Return the same network with the same weights, all patches kept."""
        return self

    def runnable(self) -> tuple[str, ...]:
        """Precisions whose packages are installed: those that ``auto`` may try."""
        return self.precisions

    def prepare(self, precision: str = "fp32", layer_precision: Mapping[str, str] | None = None) -> None:
        """Pack weights for the device they lie on and for one arithmetic; called once, after loading and moving.

        Parameters
        ----------
        precision : one of `precisions`.
        layer_precision : another one for some of :meth:`linears`, by name.

        Raises
        ------
        ModelError
            If the weights were packed for another arithmetic before, or there is no such layer.
        """
        layers = dict(layer_precision or {})
        if self.prepared is not None and (self.prepared, dict(self.layer_precision)) != (precision, layers):
            now, wanted = mode_label(self.prepared, self.layer_precision), mode_label(precision, layers)
            raise ModelError(f"this backbone runs in {now} and cannot change to {wanted}; load it again")
        if unknown := sorted(layers.keys() - self.linears().keys()):
            raise ModelError(f"no linear layer {unknown[0]!r} here that could run in {layers[unknown[0]]}")
        self.prepared, self.layer_precision = precision, layers
        for name, module in self.named_modules():
            if module is not self and hasattr(module, "prepare"):
                cast(Any, module).prepare(layers.get(name, precision))
        if (dtype := STORED.get(precision)) is not None:
            _round_parameters(self, dtype)

    def linears(self) -> dict[str, Linear]:
        """Every linear layer that a lower precision may change, by name."""
        return {n: m for n, m in self.named_modules() if isinstance(m, Linear) and not m.sensitive}


@dataclass(frozen=True)
class LoadedModel:
    """A backbone with everything needed to feed it and to say what it is.

    `config` and `weights` (a hash) go into the fingerprint; `directory` holds the tokenizer files; `name` is what
    the user called it; `prompts` are the named text prefixes that the model's own files define, or else its family's.
    `reload` makes the backbone anew. `calibration` is there once a sample of data has been seen, see `Backbone`.
    `space` is a hash of both towers of a checkpoint, where they map into one space.
    """

    backbone: Backbone
    spec: Spec
    family: str
    config: Mapping[str, Any]
    weights: str
    name: str
    directory: Path | None = None
    prompts: Mapping[str, str] | None = None
    reload: Callable[[], Backbone] | None = None
    calibration: Calibration | None = None
    space: str | None = None


def _round_parameters(backbone: nn.Module, dtype: torch.dtype) -> None:
    """Store everything but the linear layers, which know better, in 16 bits; tables of angles are no parameters."""
    for module in backbone.modules():
        for parameter in () if isinstance(module, Linear) else module.parameters(recurse=False):
            if parameter.dtype == torch.float32:
                parameter.data = parameter.data.to(dtype)


def copy_sharing_tensors(module: AnyModule, besides: Iterable[torch.Tensor] = ()) -> AnyModule:
    """Copy a module, but no parameter or buffer: both have the same ones. Those in `besides` are copied too."""
    own = {id(tensor) for tensor in besides}
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers()) if id(tensor) not in own}
    return copy.deepcopy(module, shared)


def run_blocks(
    backbone: Backbone,
    x: torch.Tensor,
    cu_seqlens: torch.Tensor,
    outputs: Sequence[Output],
    block: Callable[[int, torch.Tensor, torch.Tensor | None], torch.Tensor],
) -> dict[int | None, torch.Tensor]:
    """Run as many blocks as the outputs need, and return what is wanted of them, by layer; None is the last one.

    ``block(i, x, rows)`` runs block i from 0 on, for the tokens `rows` alone where it is not None: of the last block
    that runs no more is computed than the pooling asks for.
    """
    wanted = {output.layer for output in outputs}
    last = backbone.depth if None in wanted else max(layer for layer in wanted if layer is not None)
    rows = _rows_wanted(outputs, last, cu_seqlens, backbone)
    layers: dict[int | None, torch.Tensor] = {}
    for number in range(1, last + 1):
        x = block(number - 1, x, rows if number == last else None)
        if number in wanted:
            layers[number] = x
    if None in wanted:
        layers[None] = x
    return layers


def _rows_wanted(
    outputs: Sequence[Output], last: int, cu_seqlens: torch.Tensor, backbone: Backbone
) -> torch.Tensor | None:
    """Index of the one token of each sequence that block number `last` is wanted for; None if it is wanted for more."""
    ours = [output for output in outputs if (output.layer or backbone.depth) == last]
    kinds = {backbone.pooling if output.pooling == "model" else output.pooling for output in ours}
    if kinds == {"cls"}:
        return cu_seqlens[:-1].long()
    return cu_seqlens[1:].long() - 1 if kinds == {"last"} else None


def pool_tokens(
    tokens: torch.Tensor, cu_seqlens: torch.Tensor, output: Output, backbone: Backbone, prefix: int = 0
) -> torch.Tensor:
    """Pool packed tokens (T, D) as `output` asks, or take them as they are where there is one a sequence (B, D).

    A mean, or what is not pooled, leaves out the first `prefix` tokens of equal sequences.
    """
    if prefix and output.dense:
        return tokens.view(len(cu_seqlens) - 1, -1, tokens.shape[1])[:, prefix:].flatten(0, 1).contiguous().float()
    if output.pooling == "none":
        return tokens.contiguous().float()
    pooling = backbone.pooling if output.pooling == "model" else output.pooling
    if len(tokens) == len(cu_seqlens) - 1:  # see run_blocks
        cu_seqlens = torch.arange(len(tokens) + 1, dtype=torch.int32, device=tokens.device)
    if pooling == "mean" and prefix:
        B = len(cu_seqlens) - 1
        tokens = tokens.view(B, -1, tokens.shape[1])[:, prefix:].flatten(0, 1)
        cu_seqlens = cu_seqlens - prefix * torch.arange(B + 1, dtype=torch.int32, device=cu_seqlens.device)
    if backbone.head is None or not output.own:
        return ops.pool(tokens.contiguous(), cu_seqlens, pooling, normalize=backbone.normalize)
    mapped = backbone.head(ops.pool(tokens.contiguous(), cu_seqlens, pooling))
    ones = torch.arange(len(mapped) + 1, dtype=torch.int32, device=mapped.device)
    return ops.pool(mapped, ones, "cls", normalize=backbone.normalize)
