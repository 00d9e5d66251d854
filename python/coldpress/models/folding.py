"""Batch normalisation as part of the convolution in front of it: exact but for rounding, one pass less."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from coldpress.models.base import copy_sharing_tensors

TOLERANCE = 1e-4
"""Largest relative difference that folding may make; rounding makes 1e-6 to 1e-5."""


def folded(module: nn.Module, example: torch.Tensor) -> nn.Module:
    """Return a copy of a module in eval mode whose convolutions are channels-last and normalise as well.

    A normalisation is folded where a run on `example` shows that it is fed what a convolution has just returned. That
    something else uses the same value can be seen in the result only: then nothing is folded. Parameters that do not
    change are shared with `module`, which stays as it is.
    """
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        return module
    pairs = _pairs(module, example)
    copied = copy_sharing_tensors(module, besides=[t for conv in convolutions for t in conv.parameters()])
    for conv, norm in pairs:
        parts: Any = copied.get_submodule(conv), copied.get_submodule(norm)
        fused: nn.Module = fuse_conv_bn_eval(*parts)
        copied.set_submodule(conv, fused)
        copied.set_submodule(norm, nn.Identity())
    copied.to(memory_format=torch.channels_last).requires_grad_(requires_grad=False)  # type: ignore[call-overload]
    copied.layout = torch.channels_last  # type: ignore[assignment]
    return copied if not pairs or _agree(module, copied, example) else module


def _pairs(module: nn.Module, example: torch.Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and the normalisations that take what they return, each run once."""
    made: dict[int, tuple[str, torch.Tensor]] = {}  # the tensor is kept, or its id could come again
    taken: list[tuple[str, str]] = []
    runs: Counter[str] = Counter()

    def returned(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            runs[name] += 1
            made[id(output)] = (name, output)

        return hook

    def fed(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            runs[name] += 1
            if inputs and id(inputs[0]) in made:
                taken.append((made[id(inputs[0])][0], name))

        return hook

    handles = []
    for name, part in module.named_modules(remove_duplicate=False):
        if type(part).forward is nn.Conv2d.forward:
            handles.append(part.register_forward_hook(returned(name)))
        elif isinstance(part, nn.BatchNorm2d) and part.track_running_stats and part.affine:
            handles.append(part.register_forward_pre_hook(fed(name)))
    try:
        with torch.inference_mode():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    uses = Counter(conv for conv, _ in taken)
    return [(conv, norm) for conv, norm in taken if runs[conv] == runs[norm] == uses[conv] == 1]


def _agree(module: nn.Module, other: nn.Module, example: torch.Tensor) -> bool:
    with torch.inference_mode():
        pairs = zip(_tensors(module(example)), _tensors(other(example)), strict=True)
        return all(bool((a - b).abs().max() <= TOLERANCE * a.abs().max()) for a, b in pairs)


def _tensors(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for t in (result.get("last_hidden_state"), result.get("pooler_output")) if t is not None]
