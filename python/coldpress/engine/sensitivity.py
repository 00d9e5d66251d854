"""How much each layer alone costs when its product is quantised, from one forward and one backward pass.

On the inputs that a layer sees in the fp32 network, its quantised product is off by e. To first order that moves the
vector of an item by J e, with J the Jacobian of the vector by the output of the layer. The gradient of a random
projection of the vector, J^T r, comes for every layer from the same backward pass, and <J^T r, e>^2 has the mean
|J e|^2: a sample of items stands for the expectation. The backbone itself receives no gradient.

Ranking layers by the forwards themselves, each with one layer quantised, takes as many forwards as there are layers:
48 for a ViT-B, against the four or so of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from coldpress.engine.compute import Computer, collate
from coldpress.layers import Linear
from coldpress.ops import ReferenceMode
from coldpress.types import ModelInput


@dataclass(frozen=True, slots=True)
class LayerCost:
    """`loss` is what quantising this layer alone takes from the cosine, `macs` its multiply-adds, both on a sample."""

    loss: float
    macs: int


_Call = tuple[str, torch.Tensor, torch.Tensor]
_calls: ContextVar[list[_Call]] = ContextVar("_calls")


def layer_costs(quantized: Computer, exact: Computer, inputs: Sequence[ModelInput]) -> dict[str, LayerCost]:
    """Measure every layer that `quantized` does not run in fp32, on inputs of the fp32 computer `exact`.

    Items are taken one by one, each by one thread, with a direction of their own: the result does not depend on their
    order, nor on the number of threads. The loss is of the first output, as the certificate is.
    """
    layers = quantized.backbone.linears()
    with _recorded(exact.backbone.linears()):
        work = partial(_one_item, layers, exact)
        items = exact.each(work, sorted(inputs, key=lambda item: item.content_hash))
    found = [item for item in items if item]
    return {
        name: LayerCost(
            loss=float(f"{np.mean([item[name].loss for item in found]):.3g}"),
            macs=sum(item[name].macs for item in found),
        )
        for name in (found[0] if found else ())
    }


def _one_item(layers: Mapping[str, Linear], exact: Computer, item: ModelInput) -> dict[str, LayerCost]:
    """The costs on one item; nothing for one whose vector is zero or not finite."""
    output = next((output for output in exact.outputs if not output.dense), replace(exact.outputs[0], pooling="mean"))
    whole = replace(output, name="mean of all tokens", pooling="mean")  # so that no layer leaves tokens out
    calls = _calls_of([])
    with torch.inference_mode(mode=False), torch.enable_grad(), ReferenceMode(), calls as seen:
        vector = exact.backbone(collate([item], exact.device), (output, whole))[output.name][0].double()
        square = float(vector.detach() @ vector.detach())
        if not np.isfinite(square) or square == 0 or not seen:
            return {}
        across = _direction(item, len(vector))
        across -= vector.detach() * (across @ vector.detach()) / square  # the cosine ignores the length
        gradients = torch.autograd.grad(vector @ across, [out for _, _, out in seen], allow_unused=True)
    costs: dict[str, LayerCost] = {}
    with torch.inference_mode():
        for (name, x, out), gradient in zip(seen, gradients, strict=True):
            moved = 0.0
            if gradient is not None:
                moved = float((gradient.double() * (layers[name](x) - out.detach())).sum())
            costs[name] = LayerCost(moved**2 / square / 2, x.shape[0] * x.shape[1] * out.shape[1])
    return costs


def _direction(item: ModelInput, width: int) -> torch.Tensor:
    draw = np.random.default_rng(list(item.content_hash.encode()))
    return torch.from_numpy(draw.standard_normal(width))


@contextmanager
def _calls_of(calls: list[_Call]) -> Iterator[list[_Call]]:
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


@contextmanager
def _recorded(layers: Mapping[str, Linear]) -> Iterator[None]:
    """Note input and output of every call of these layers, apart for each thread."""

    def note(name: str, _layer: torch.nn.Module, inputs: tuple[Any, ...], out: torch.Tensor) -> None:
        if not out.requires_grad:
            out.requires_grad_()
        _calls.get().append((name, inputs[0].detach(), out))

    hooks = [layer.register_forward_hook(partial(note, name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
