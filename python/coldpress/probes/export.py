"""Backbone and head as one `torch.nn.Module`: the start of a fine-tuning that a linear probe has prepared.

The backbone runs the plain-torch references of coldpress' ops, the yardstick of every certificate: the same vectors as
fp32, several times slower than the kernels, and differentiable, which the kernels are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from coldpress.engine.compute import collate
from coldpress.engine.inputs import all_good
from coldpress.engine.reduction import Reduction
from coldpress.errors import ColdpressError
from coldpress.layers.conv import Conv2d
from coldpress.models.base import Backbone
from coldpress.models.generic import Generic
from coldpress.ops import ReferenceMode
from coldpress.types import Batch, Output

if TYPE_CHECKING:
    from coldpress.extractor import Extractor
    from coldpress.probes.head import Head

_TRAINED = ("packed", "shift")
"""Buffers that hold weights once a layer is prepared; of convolutions with their normalisation folded in."""


class FineTunable(nn.Module):
    """A batch to the logits (B, K) of a head, all weights trainable; made by :meth:`Head.to_module`.

    Attributes
    ----------
    backbone : the network, in fp32. Batch normalisations are folded into its convolutions: their statistics stay as
        they are, and so does dropout, of which there is none.
    linear : the head, with scaling, projection of two classes and temperature folded in.
    classes : columns of the logits; empty for numbers.
    """

    def __init__(self, backbone: Backbone, output: Output, reduction: Reduction, linear: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.linear = backbone, linear
        self.output, self.reduction = output, reduction
        self.classes: tuple[str | int, ...] = ()

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits (B, K) float32 of a packed batch, see :func:`batch_of`."""
        with ReferenceMode():
            rows = self.reduction(self.output, self.backbone(batch, (self.output,))[self.output.name])
        logits: torch.Tensor = self.linear(rows)
        return logits


def batch_of(extractor: Extractor, items: Sequence[Any]) -> Batch:
    """Items, as :meth:`Extractor.embed` takes them, as one batch on the extractor's device.

    Raises
    ------
    ItemError
        An item cannot be read.
    """
    return collate(all_good(extractor.prepare(items), 0), extractor.device)


def to_module(head: Head, extractor: Extractor) -> FineTunable:
    """The backbone that made the vectors and the head behind it; see :meth:`Head.to_module`."""
    head.check(extractor.fingerprint)
    model = extractor.model
    if model.reload is None or isinstance(model.backbone, Generic):
        raise ColdpressError(
            f"{model.name} runs as the torch module of another library: put torch.nn.Linear with head.coef behind that"
        )
    backbone = model.reload().to(extractor.device)
    backbone.prepare("fp32")
    for module in list(backbone.modules()):
        if isinstance(module, Conv2d):
            module.without_winograd()
            module._parameters.clear()  # what has been folded into the packed weight
        for name in _TRAINED:
            tensor = module._buffers.get(name)
            if tensor is not None and tensor.numel():
                delattr(module, name)
                module.register_parameter(name, nn.Parameter(tensor.clone()))
    for parameter in backbone.parameters():
        parameter.requires_grad_(parameter.numel() > 0)
    pooled = [output for output in extractor.outputs if not output.dense]
    output = next((one for one in pooled if head.output in (None, one.name)), None)
    if output is None:
        raise ColdpressError(
            f"the extractor has no output {head.output}, which the head was trained on: ask it for that"
        )
    made = FineTunable(backbone, output, extractor.reduction, _linear(head).to(extractor.device))
    made.classes = head.classes
    return made


def _linear(head: Head) -> nn.Linear:
    """Scaling, weights and temperature as one layer, in float64 until the last step."""
    if head.kind == "knn":
        raise ColdpressError("nearest neighbours have no weights to train: export a logistic, ridge or lda head")
    W, b = head.coef, head.intercept
    if head.mean is not None and head.scale is not None:
        W = W / head.scale
        b = b - W @ head.mean
    if head.task == "classify" and len(W) == 1:  # of two classes, whose logits are 0 or the opposite, and this one
        first = -1 if head.kind == "ridge" else 0
        W, b = np.vstack([first * W, W]), np.concatenate([first * b, b])
    layer = nn.Linear(W.shape[1], len(W))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(W / head.temperature))
        layer.bias.copy_(torch.from_numpy(b / head.temperature))
    return layer
