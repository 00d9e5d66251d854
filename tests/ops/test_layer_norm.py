from __future__ import annotations

import pytest
import torch
from rule import TAILS, assert_within_k, on_every_level

from coldpress import ops
from coldpress.ops.layer_norm import add_layer_norm_reference, layer_norm_reference


def arguments(rows: int, D: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(rows, D) * 3 + 1, torch.randn(rows, D), torch.randn(D), torch.randn(D)


@pytest.mark.parametrize("D", TAILS)
def test_tails(D: int) -> None:
    x, residual, weight, bias = arguments(67, D)
    ours = on_every_level(lambda: ops.layer_norm(x, weight, bias, 1e-5))
    assert_within_k(ours, layer_norm_reference, x, weight, bias, 1e-5)
    normed = on_every_level(lambda: ops.add_layer_norm(x, residual, weight, bias, 1e-12)[0])
    assert_within_k(normed, add_layer_norm_reference, x, residual, weight, bias, 1e-12, pick=0)
    assert torch.equal(ops.add_layer_norm(x, residual, weight, bias, 1e-12)[1], x + residual)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_a_large_mean_does_not_cancel(offset: float) -> None:
    x, _, weight, bias = arguments(5, 768)
    assert_within_k(
        ops.layer_norm(x + offset, weight, bias, 1e-6), layer_norm_reference, x + offset, weight, bias, 1e-6
    )


def test_constant_rows_become_the_bias() -> None:
    _, _, weight, bias = arguments(1, 33)
    assert torch.allclose(ops.layer_norm(torch.full((4, 33), 2.0), weight, bias, 1e-12), bias.expand(4, -1))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_depends_on_itself_alone(threads: int) -> None:
    x, residual, weight, bias = arguments(200, 50)
    whole = ops.add_layer_norm(x, residual, weight, bias, 1e-5)[0]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for row in (0, 63, 64, 199):
            alone = ops.add_layer_norm(x[row : row + 1], residual[row : row + 1], weight, bias, 1e-5)[0]
            assert torch.equal(alone[0], whole[row])
    finally:
        torch.set_num_threads(before)


def test_nan_stays_in_its_row() -> None:
    x, _, weight, bias = arguments(6, 20)
    x[2, 7] = float("nan")
    bad = ops.layer_norm(x, weight, bias, 1e-5).isnan().any(dim=1)
    assert bad.tolist() == [False, False, True, False, False, False]


def test_shapes() -> None:
    x, residual, weight, bias = arguments(6, 20)
    assert ops.layer_norm(x.view(2, 3, 20), weight, bias, 1e-5).shape == (2, 3, 20)
    assert ops.layer_norm(x[:0], weight, bias, 1e-5).shape == (0, 20)
    assert ops.layer_norm(torch.empty(3, 0), torch.empty(0), torch.empty(0), 1e-5).shape == (3, 0)
    with pytest.raises(ValueError, match="expected weight and bias of the last dimension"):
        ops.layer_norm(x, weight[1:], bias, 1e-5)
    with pytest.raises(ValueError, match=r"got residual \(5, 20\)"):
        ops.add_layer_norm(x, residual[1:], weight, bias, 1e-5)
    with pytest.raises(RuntimeError, match="contiguous"):
        ops.layer_norm(torch.randn(20, 20).t(), weight, bias, 1e-5)


def test_opcheck() -> None:
    x, residual, weight, bias = arguments(6, 20)
    torch.library.opcheck(torch.ops.coldpress.layer_norm.default, (x, weight, bias, 1e-5))
    torch.library.opcheck(torch.ops.coldpress.add_layer_norm.default, (x, residual, weight, bias, 1e-5))
