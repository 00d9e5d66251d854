"""How much work an item is: the multiply-adds of its linear layers and convolutions, counted while it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from coldpress.engine.compute import collate
from coldpress.layers.linear import Linear
from coldpress.models import Backbone
from coldpress.types import ModelInput, Output

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def flop_per_item(backbone: Backbone, inputs: Sequence[ModelInput], outputs: Sequence[Output]) -> float:
    """Operations in linear layers and convolutions per item, a multiply-add counted as two.

    Attention, normalisation and activations are left out: a few per cent. To be called before the backbone is
    prepared: afterwards fused ops compute several layers at once, and none of them is seen.
    """
    done: list[int] = []

    def count(layer: nn.Module, args: tuple[Any, ...], out: torch.Tensor) -> None:
        inner = layer.weight[0].numel() if isinstance(layer, _CONVOLUTIONS) else args[0].shape[-1]
        done.append(2 * out.numel() * inner)

    layers = [module for module in backbone.modules() if isinstance(module, (Linear, nn.Linear, *_CONVOLUTIONS))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.inference_mode():
            backbone(collate(inputs, torch.device("cpu")), outputs)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(done) / len(inputs)
