from __future__ import annotations

import pytest
import torch
from rule import TAILS, assert_within_k, on_every_level

from coldpress import ops
from coldpress.ops.bias_gelu import bias_gelu_reference


@pytest.mark.parametrize("tanh", [False, True])
@pytest.mark.parametrize("D", TAILS)
def test_tails(D: int, *, tanh: bool) -> None:
    x, bias = torch.randn(35, D) * 3, torch.randn(D)
    ours = on_every_level(lambda: ops.bias_gelu(x, bias, tanh=tanh))
    assert_within_k(ours, bias_gelu_reference, x, bias, tanh)


def test_it_equals_the_epilogue_of_linear() -> None:
    x, bias = torch.randn(9, 33), torch.randn(33)
    for tanh, name in ((False, "gelu"), (True, "gelu_tanh")):
        fused = ops.linear(x, ops.pack_weight(torch.eye(33)), bias, name)  # type: ignore[arg-type]
        assert torch.equal(fused, ops.bias_gelu(x, bias, tanh=tanh))


def test_shapes_and_nan() -> None:
    assert ops.bias_gelu(torch.empty(0, 4), torch.zeros(4)).shape == (0, 4)
    assert ops.bias_gelu(torch.empty(3, 0), torch.empty(0)).shape == (3, 0)
    assert ops.bias_gelu(torch.randn(2, 3, 4), torch.zeros(4)).shape == (2, 3, 4)
    assert ops.bias_gelu(torch.tensor([[1.0, float("nan")]]), torch.zeros(2)).isnan().tolist() == [[False, True]]
    with pytest.raises(ValueError, match=r"expected bias \(D,\)"):
        ops.bias_gelu(torch.randn(2, 3), torch.zeros(4))
    with pytest.raises(RuntimeError, match=r"bias_gelu: x must be contiguous; pass \.contiguous\(\)"):
        ops.bias_gelu(torch.randn(4, 4).t(), torch.zeros(4))


def test_extreme_values_saturate() -> None:
    x = torch.tensor([[1e4, -1e4, 1e30, -1e30, float("inf"), 0.0]])
    for tanh in (False, True):
        ours = on_every_level(lambda tanh=tanh: ops.bias_gelu(x, torch.zeros(6), tanh=tanh))  # type: ignore[misc]
        assert torch.allclose(ours, torch.tensor([[1e4, 0.0, 1e30, 0.0, float("inf"), 0.0]]), atol=1e-8)


def test_opcheck() -> None:
    torch.library.opcheck(torch.ops.coldpress.bias_gelu.default, (torch.randn(5, 20), torch.randn(20), False))
