"""How much work an item is: the multiply-adds of its linear layers and convolutions, counted while it is computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from coldpress.engine.compute import collate
from coldpress.models import Backbone
from coldpress.ops import ReferenceMode
from coldpress.types import ModelInput, Output

_COUNTED = ("aten.mm", "aten.addmm", "aten.convolution")


def flop_per_item(backbone: Backbone, inputs: Sequence[ModelInput], outputs: Sequence[Output]) -> float:
    """Operations in linear layers and convolutions per item, a multiply-add counted as two.

    Attention, normalisation and activations are left out: a few per cent. The backbone is one that was prepared for
    fp32; what is counted is what the plain-torch form of its ops calls.
    """
    with torch.no_grad(), ReferenceMode(), FlopCounterMode(display=False) as counter:
        backbone(collate(inputs, torch.device("cpu")), outputs)
    by_op = counter.get_flop_counts().get("Global", {})  # of a table of vectors nothing
    counted: int = sum(count for op, count in by_op.items() if str(op) in _COUNTED)
    return counted / len(inputs)
