"""A frozen linear layer with its activation, its weights packed for the device and the arithmetic it runs in."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from coldpress import ops
from coldpress.ops.linear import PANEL
from coldpress.ops.residual_norm import encode

STORED = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.bfloat16}
"""How weights and tokens are stored in the modes of GPUs; sums are in float32 all the same."""

ALIGNED, WIDEST = 16, 8192
"""What both sides of a weight in float8 are multiples of, and how long a row is at most; others stay in 16 bits."""


class Linear(nn.Module):
    """``activation(x W^T + bias)`` for packed tokens (T, D).

    :meth:`prepare` is called once after loading: on a CPU it replaces the weight by its packed panels, in fp32, int8
    or int16, so that only one copy stays in memory. For a GPU the weight stays as it is, in 16 bits, or in
    float8 with a step a row, and tokens are then quantised as well.

    Parameters
    ----------
    in_features, out_features : K, N.
    activation : what is applied to the sum.
    sensitive : stays in fp32 in every mode; tokens of another dtype are widened for it.
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
        self.codes: torch.Tensor | None
        self.steps: torch.Tensor | None
        self.register_buffer("codes", None, persistent=False)
        self.register_buffer("steps", None, persistent=False)

    @property
    def quantized(self) -> ops.QuantizedWeight | None:
        """The weight in integers, where this layer was prepared so."""
        if self.packed is None or self.columns is None:
            return None
        return ops.QuantizedWeight(self.packed, self.columns)

    @property
    def float8(self) -> ops.Codes | None:
        """The weight in float8, where this layer was prepared so."""
        return None if self.codes is None or self.steps is None else ops.Codes(self.codes, self.steps)

    def prepare(self, precision: str) -> None:
        """Pack the weight for the device that it lies on and for one arithmetic."""
        if precision in STORED:
            if not self.sensitive and self.codes is None:
                sides = self.weight.shape
                if precision == "fp8" and not any(side % ALIGNED for side in sides) and sides[1] <= WIDEST:
                    self.codes, self.steps = encode(self.weight.float())
                    self.weight = nn.Parameter(torch.empty(0), requires_grad=False)
                self.store(STORED[precision])
            return
        if self.weight.device.type != "cpu" or self.weight.dtype != torch.float32 or self.packed is not None:
            return
        if precision in ("int8", "int16") and not self.sensitive:
            self.packed, self.columns = ops.quantize_weight(self.weight, precision)  # type: ignore[arg-type]
        else:
            self.packed = ops.pack_weight(self.weight)
        self.weight = nn.Parameter(torch.empty(0), requires_grad=False)

    def store(self, dtype: torch.dtype) -> None:
        """Round weight and bias."""
        self.weight = nn.Parameter(self.weight.to(dtype), requires_grad=False)
        self.bias = nn.Parameter(self.bias.to(dtype), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (T, in_features) to (T, out_features), of the dtype of `x`."""
        if self.codes is not None:
            return self.of_codes(ops.quantize_rows(x)).to(x.dtype)
        return self._product(x, self.weight, self.packed, self.columns, self.bias)

    def of_codes(self, x: ops.Codes) -> torch.Tensor:
        """Map rows in float8 (T, in_features) to (T, out_features) in bfloat16."""
        assert self.float8 is not None
        if self.activation == "none":
            return ops.linear_float8(x, self.float8, self.bias)
        return ops.bias_activation_(ops.linear_float8(x, self.float8, None), self.bias, self.activation)

    def part(self, x: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        """Return outputs [begin, end) alone, bit for bit; both are multiples of 64."""
        panels = slice(begin // PANEL, end // PANEL)
        packed, columns = self.packed, self.columns
        return self._product(
            x,
            self.weight[begin:end] if packed is None else self.weight,
            None if packed is None else packed[panels],
            None if columns is None else columns[:, begin:end].contiguous(),
            self.bias[begin:end],
        )

    def _product(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        packed: torch.Tensor | None,
        columns: torch.Tensor | None,
        bias: torch.Tensor,
    ) -> torch.Tensor:
        if packed is not None and columns is not None:
            return ops.linear_quantized(x, ops.QuantizedWeight(packed, columns), bias, self.activation)
        if packed is not None:
            return ops.linear(x, packed, bias, self.activation)
        return library_product(x.to(weight.dtype), weight, bias, self.activation).to(x.dtype)


def library_product(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    activation: ops.Activation,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return ``activation(x W^T + bias [+ residual])`` of (T, K) and (N, K), by torch's own product.

    Its epilogue adds the bias, and on GPUs knows two of the activations; what it cannot do is one pass behind it.
    """
    if activation == "none" and residual is None:
        return F.linear(x, weight, bias)
    if activation in ("relu", "gelu_tanh") and residual is None and x.is_cuda and x.dtype != torch.float32:
        return torch._addmm_activation(bias, x, weight.T, use_gelu=activation == "gelu_tanh")
    return ops.bias_activation_(F.linear(x, weight), bias, activation, residual)
