"""A frozen linear layer with its activation, its weights packed for the device it runs on."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from coldpress import ops
from coldpress.ops.linear import activate


class Linear(nn.Module):
    """``activation(x W^T + bias)`` for packed tokens (T, D).

    :meth:`prepare` is called once after loading: on a CPU it replaces the weight by its packed panels, so that only
    one copy stays in memory.
    """

    def __init__(self, in_features: int, out_features: int, activation: ops.Activation = "none") -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.empty(out_features, in_features), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(out_features), requires_grad=False)
        self.packed: torch.Tensor | None
        self.register_buffer("packed", None, persistent=False)

    def prepare(self) -> None:
        """Pack the weight for the device that it lies on."""
        if self.weight.device.type == "cpu" and self.weight.dtype == torch.float32 and self.packed is None:
            self.packed = ops.pack_weight(self.weight)
            self.weight = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (T, in_features) to (T, out_features)."""
        if self.packed is not None:
            return ops.linear(x, self.packed, self.bias, self.activation)
        if self.activation in ("gelu", "gelu_tanh"):
            return ops.bias_gelu(F.linear(x, self.weight), self.bias, tanh=self.activation == "gelu_tanh")
        return activate(F.linear(x, self.weight, self.bias), self.activation)
