from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_rule import assert_close, packed
from rule import TAILS, on_every_level

from coldpress import ops
from coldpress.ops.linear import activate
from coldpress.ops.linear_int8 import MAX_FEATURES, linear_int8_reference, quantize_rows, unpack_weight_int8

ACTIVATIONS = ("none", "gelu", "gelu_tanh", "relu", "quick_gelu", "silu")


@pytest.mark.parametrize("size", TAILS)
@pytest.mark.parametrize("axis", ["M", "K", "N"])
def test_tails(size: int, axis: str) -> None:
    M, K, N = ({"M": 13, "K": 24, "N": 70} | {axis: size}).values()
    x, (_, weight, bias) = torch.randn(M, K), packed(N, K)
    ours = on_every_level(lambda: ops.linear_int8(x, weight, bias))
    assert_close(ours, linear_int8_reference(x, *weight, bias, "none"), steps=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    x, (_, weight, bias) = 20 * torch.randn(50, 40), packed(70, 40)
    ours = on_every_level(lambda: ops.linear_int8(x, weight, bias, activation))  # type: ignore[arg-type]
    assert_close(ours, linear_int8_reference(x, *weight, bias, activation), steps=0)


@pytest.mark.parametrize(("M", "K", "N"), [(197, 768, 3072), (50, 4096, 130)])
def test_error_is_that_of_eight_bits(M: int, K: int, N: int) -> None:
    """Rounding to 8 bits is uniform noise: x by its range / 255, a weight by its largest / 127, over sqrt(12)."""
    x, (weight, int8, bias) = torch.randn(M, K), packed(N, K)
    exact = activate(x.double() @ weight.double().T + bias, "none")
    error = ops.linear_int8(x, int8, bias) - exact
    step_x = (x.amax(1) - x.amin(1)) / 255
    step_w = weight.abs().amax(1) / 127
    variance = (step_x**2)[:, None] * (weight**2).sum(1) + (x**2).sum(1)[:, None] * step_w**2
    assert float(error.square().mean() / (variance / 12).mean()) == pytest.approx(1, abs=0.05)


def test_the_largest_sums_are_exact() -> None:
    """65,536 products of 255 and 127 stay below 2^31."""
    K = MAX_FEATURES
    x = torch.ones(2, K)
    x[:, 0], x[1] = 0, -x[1]
    weight = ops.pack_weight_int8(torch.ones(3, K))
    ours = on_every_level(lambda: ops.linear_int8(x, weight, torch.zeros(3)))
    assert torch.allclose(ours, x.sum(1, keepdim=True).expand(-1, 3), rtol=1e-6)


def test_rows_without_range() -> None:
    """A constant row has no quantisation error at all but that of the weights."""
    _, weight, bias = packed(70, 24)
    scaled = unpack_weight_int8(weight.packed, 24, 70) * weight.columns[0, :70, None]
    for value in (0.0, -0.0, 3.5, -2e-30, 1e30):
        ours = on_every_level(lambda value=value: ops.linear_int8(torch.full((3, 24), value), weight, bias))
        assert torch.allclose(ours, (value * scaled.sum(1) + bias).expand(3, -1), rtol=1e-5)


def test_a_weight_row_of_zeros_gives_the_bias() -> None:
    weight = ops.pack_weight_int8(torch.zeros(5, 8))
    bias = torch.randn(5)
    assert torch.equal(ops.linear_int8(torch.randn(4, 8), weight, bias), bias.expand(4, -1))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 120), st.integers(0, 119), st.integers(1, 3))
def test_a_row_depends_on_itself_alone(M: int, row: int, threads: int) -> None:
    x, (_, weight, bias) = torch.randn(M, 40), packed(130, 40)
    row %= M
    before = torch.get_num_threads()
    whole = ops.linear_int8(x, weight, bias, "gelu")
    torch.set_num_threads(threads)
    try:
        assert torch.equal(ops.linear_int8(x[row : row + 1].clone(), weight, bias, "gelu")[0], whole[row])
        assert torch.equal(ops.linear_int8(x, weight, bias, "gelu"), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", [(1, 1), (63, 5), (64, 4), (65, 7), (200, 33)])
def test_packing_loses_no_more_than_half_a_step(size: tuple[int, int]) -> None:
    weight = torch.randn(*size)
    packed_weight, columns = ops.pack_weight_int8(weight)
    integers, scales = unpack_weight_int8(packed_weight, size[1], size[0]), columns[0, : size[0], None]
    assert ((integers * scales - weight).abs() <= scales * 0.5001).all()
    assert torch.allclose(columns[1, : size[0]], (integers * scales).sum(1), atol=1e-4)
    assert int(integers.abs().max()) == 127


def test_rows_use_all_of_their_bytes() -> None:
    x = (torch.randn(20, 300) + 3) * torch.logspace(-20, 20, 20).unsqueeze(1)
    integers, scale, offset = quantize_rows(x)
    assert integers.amin(1).eq(0).all()
    assert integers.amax(1).eq(255).all()
    assert ((integers * scale + offset - x).abs() <= scale * 0.5001 + 1e-6 * x.abs()).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_spoils_its_own_row_only(bad: float) -> None:
    _, weight, bias = packed(30, 100)
    for column in (0, 3, 99):
        x = torch.randn(9, 100)
        x[4, column] = bad
        result = on_every_level(lambda x=x: ops.linear_int8(x, weight, bias))
        assert result[4].isnan().all()
        assert result.isnan().sum() == 30


def test_no_rows() -> None:
    _, weight, bias = packed(30, 20)
    assert ops.linear_int8(torch.empty(0, 20), weight, bias).shape == (0, 30)


def test_what_does_not_fit_is_named() -> None:
    x, (_, weight, bias) = torch.randn(3, 20), packed(30, 20)
    with pytest.raises(ValueError, match=r"got x \(M, 15\)"):
        ops.linear_int8(x[:, 5:], weight, bias)
    with pytest.raises(ValueError, match=r"bias \(129,\)"):
        ops.linear_int8(x, weight, torch.zeros(129))
    with pytest.raises(ValueError, match="got x \\(3, 20, 1\\)"):
        ops.linear_int8(x.unsqueeze(2), weight, bias)
    with pytest.raises(ValueError, match="rows of 0 values"):
        ops.linear_int8(x[:, :0], packed(30, 1)[1]._replace(packed=torch.empty(1, 0, 64, 4)), bias)
    with pytest.raises(ValueError, match="activation 'tanh'"):
        ops.linear_int8(x, weight, bias, "tanh")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="contiguous"):
        ops.linear_int8(torch.randn(20, 3).t(), weight, bias)
    with pytest.raises(RuntimeError, match="float32"):
        ops.linear_int8(x.double(), weight, bias)


@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_opcheck(activation: str) -> None:
    x, (_, weight, bias) = torch.randn(5, 20), packed(70, 20)
    torch.library.opcheck(torch.ops.coldpress.linear_int8.default, (x, *weight, bias, activation))
