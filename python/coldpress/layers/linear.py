"""A frozen linear layer with its activation, its weights packed for the device and the arithmetic it runs in."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from coldpress import ops
from coldpress.ops.linear import activate


class Linear(nn.Module):
    """``activation(x W^T + bias)`` for packed tokens (T, D).

    :meth:`prepare` is called once after loading: on a CPU it replaces the weight by its packed panels, in fp32 or
    int8, so that only one copy stays in memory.

    Parameters
    ----------
    in_features, out_features : K, N.
    activation : what is applied to the sum.
    sensitive : stays in fp32 in every mode.
    """

    def __init__(
        self, in_features: int, out_features: int, activation: ops.Activation = "none", *, sensitive: bool = False
    ) -> None:
        super().__init__()
        self.activation, self.sensitive = activation, sensitive
        self.weight = nn.Parameter(torch.empty(out_features, in_features), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(out_features), requires_grad=False)
        self.packed: torch.Tensor | None
        self.columns: torch.Tensor | None
        self.register_buffer("packed", None, persistent=False)
        self.register_buffer("columns", None, persistent=False)

    @property
    def int8(self) -> ops.PackedInt8 | None:
        """The int8 weight, where this layer was prepared so."""
        if self.packed is None or self.columns is None:
            return None
        return ops.PackedInt8(self.packed, self.columns)

    def prepare(self, precision: str) -> None:
        """Pack the weight for the device that it lies on, and for ``fp32`` or ``int8`` arithmetic."""
        if self.weight.device.type != "cpu" or self.weight.dtype != torch.float32 or self.packed is not None:
            return
        if precision == "int8" and not self.sensitive:
            self.packed, self.columns = ops.pack_weight_int8(self.weight)
        else:
            self.packed = ops.pack_weight(self.weight)
        self.weight = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (T, in_features) to (T, out_features)."""
        if (int8 := self.int8) is not None:
            return ops.linear_int8(x, int8, self.bias, self.activation)
        if self.packed is not None:
            return ops.linear(x, self.packed, self.bias, self.activation)
        if self.activation in ("gelu", "gelu_tanh"):
            return ops.bias_gelu(F.linear(x, self.weight), self.bias, tanh=self.activation == "gelu_tanh")
        return activate(F.linear(x, self.weight, self.bias), self.activation)
