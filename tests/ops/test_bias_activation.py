from __future__ import annotations

from typing import get_args

import pytest
import torch

from coldpress import ops
from coldpress.ops.linear import activate


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("activation", get_args(ops.Activation))
def test_it_changes_x_and_rounds_once(activation: ops.Activation, dtype: torch.dtype) -> None:
    x, bias, residual = torch.randn(2, 3, 5, 8).to(dtype) * 3, torch.randn(8).to(dtype), torch.randn(2, 3, 5, 8)
    summed = x.float() + bias
    for added, exact in ((None, summed), (residual.to(dtype), summed + residual.to(dtype))):
        ours = x.clone()
        assert ops.bias_activation_(ours, bias, activation, added) is ours
        assert torch.equal(ours, activate(exact, activation).to(dtype))


def test_it_equals_the_epilogue_of_linear() -> None:
    x, bias = torch.randn(9, 33), torch.randn(33)
    for activation in get_args(ops.Activation):
        fused = ops.linear(x, ops.pack_weight(torch.eye(33)), bias, activation)
        assert torch.allclose(fused, ops.bias_activation_(x.clone(), bias, activation), atol=2e-6)


def test_what_does_not_fit() -> None:
    x, bias = torch.randn(2, 3), torch.zeros(3)
    assert ops.bias_activation_(torch.empty(0, 3), bias, "relu").shape == (0, 3)
    with pytest.raises(ValueError, match=r"expected bias \(D,\), residual of the shape of x"):
        ops.bias_activation_(x, torch.zeros(4), "relu")
    with pytest.raises(ValueError, match=r"residual \(3,\)"):
        ops.bias_activation_(x, bias, "relu", bias)
    with pytest.raises(ValueError, match="got activation 'tanh'"):
        ops.bias_activation_(x, bias, "tanh")  # type: ignore[arg-type]


def test_opcheck() -> None:
    op = torch.ops.coldpress.bias_activation_.default
    torch.library.opcheck(op, (torch.randn(5, 20), torch.randn(20), "gelu", None))
    torch.library.opcheck(op, (torch.randn(5, 20), torch.randn(20), "relu", torch.randn(5, 20)))
