from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_rule import MODES, Mode, assert_close, packed
from rule import TAILS, on_every_level

from coldpress import ops
from coldpress.ops.linear import activate
from coldpress.ops.linear_quantized import (
    MAX_FEATURES,
    linear_quantized_reference,
    quantize_rows,
    unpack_weight_quantized,
)

ACTIVATIONS = ("none", "gelu", "gelu_tanh", "relu", "quick_gelu", "silu")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", TAILS)
@pytest.mark.parametrize("axis", ["M", "K", "N"])
def test_tails(size: int, axis: str, mode: Mode) -> None:
    M, K, N = ({"M": 13, "K": 24, "N": 70} | {axis: size}).values()
    x, (_, weight, bias) = torch.randn(M, K), packed(N, K, mode)
    ours = on_every_level(lambda: ops.linear_quantized(x, weight, bias))
    assert_close(ours, linear_quantized_reference(x, *weight, bias, "none"), steps=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str, mode: Mode) -> None:
    x, (_, weight, bias) = 20 * torch.randn(50, 40), packed(70, 40, mode)
    ours = on_every_level(lambda: ops.linear_quantized(x, weight, bias, activation))  # type: ignore[arg-type]
    steps = 1.7e-4 if (activation, mode) == ("gelu", "int8") else 0  # a GELU of its own, core/math.h
    assert_close(ours, linear_quantized_reference(x, *weight, bias, activation), steps=steps)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("M", "K", "N"), [(197, 768, 3072), (50, 4096, 130)])
def test_error_is_that_of_rounding(M: int, K: int, N: int, mode: Mode) -> None:
    """Rounding is uniform noise over sqrt(12): x in steps of its range, a weight in steps of its largest value."""
    steps, largest = {"int8": (255, 127), "int16": (8190, 4095)}[mode]
    x, (weight, quantized, bias) = torch.randn(M, K), packed(N, K, mode)
    exact = activate(x.double() @ weight.double().T + bias, "none")
    error = ops.linear_quantized(x, quantized, bias) - exact
    step_x = (x.amax(1) - x.amin(1)) / steps
    step_w = weight.abs().amax(1) / largest
    variance = (step_x**2)[:, None] * (weight**2).sum(1) + (x**2).sum(1)[:, None] * step_w**2
    assert float(error.square().mean() / (variance / 12).mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("mode", MODES)
def test_the_largest_sums_are_exact(mode: Mode) -> None:
    """65,536 products of 255 and 127 stay below 2^31, and so do 128 products of 4095 and 4095."""
    K = MAX_FEATURES
    x = torch.ones(2, K)
    x[:, 0], x[1] = -1 if mode == "int16" else 0, -x[1]
    weight = ops.quantize_weight(torch.ones(3, K), mode)
    ours = on_every_level(lambda: ops.linear_quantized(x, weight, torch.zeros(3)))
    assert torch.allclose(ours, x.sum(1, keepdim=True).expand(-1, 3), rtol=1e-6)


def test_rows_without_range() -> None:
    """A constant row has no quantisation error at all but that of the weights."""
    _, weight, bias = packed(70, 24)
    scaled = unpack_weight_quantized(weight.packed, 24, 70) * weight.columns[0, :70, None]
    for value in (0.0, -0.0, 3.5, -2e-30, 1e30):
        ours = on_every_level(lambda value=value: ops.linear_quantized(torch.full((3, 24), value), weight, bias))
        assert torch.allclose(ours, (value * scaled.sum(1) + bias).expand(3, -1), rtol=1e-5)


def test_a_weight_row_of_zeros_gives_the_bias() -> None:
    weight = ops.quantize_weight(torch.zeros(5, 8))
    bias = torch.randn(5)
    assert torch.equal(ops.linear_quantized(torch.randn(4, 8), weight, bias), bias.expand(4, -1))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 120), st.integers(0, 119), st.integers(1, 3), st.sampled_from(MODES))
def test_a_row_depends_on_itself_alone(M: int, row: int, threads: int, mode: Mode) -> None:
    x, (_, weight, bias) = torch.randn(M, 140), packed(130, 140, mode)
    row %= M
    before = torch.get_num_threads()
    whole = ops.linear_quantized(x, weight, bias, "gelu")
    torch.set_num_threads(threads)
    try:
        assert torch.equal(ops.linear_quantized(x[row : row + 1].clone(), weight, bias, "gelu")[0], whole[row])
        assert torch.equal(ops.linear_quantized(x, weight, bias, "gelu"), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (63, 5), (64, 4), (65, 7), (200, 33)])
def test_packing_loses_no_more_than_half_a_step(size: tuple[int, int], mode: Mode) -> None:
    weight = torch.randn(*size)
    packed_weight, columns = ops.quantize_weight(weight, mode)
    integers, scales = unpack_weight_quantized(packed_weight, size[1], size[0]), columns[0, : size[0], None]
    assert ((integers * scales - weight).abs() <= scales * 0.5001).all()
    assert torch.allclose(columns[1, : size[0]], (integers * scales).sum(1), atol=1e-4)
    assert int(integers.abs().max()) == {"int8": 127, "int16": 4095}[mode]


@pytest.mark.parametrize(("dtype", "least", "greatest"), [(torch.int8, 0, 255), (torch.int16, -4095, 4095)])
def test_rows_use_all_of_their_steps(dtype: torch.dtype, least: int, greatest: int) -> None:
    x = (torch.randn(20, 300) + 3) * torch.logspace(-20, 20, 20).unsqueeze(1)
    integers, scale, offset = quantize_rows(x, dtype)
    assert integers.amin(1).eq(least).all()
    assert integers.amax(1).eq(greatest).all()
    assert ((integers * scale + offset - x).abs() <= scale * 0.5001 + 1e-6 * x.abs()).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_spoils_its_own_row_only(bad: float, mode: Mode) -> None:
    _, weight, bias = packed(30, 100, mode)
    for column in (0, 3, 99):
        x = torch.randn(9, 100)
        x[4, column] = bad
        result = on_every_level(lambda x=x: ops.linear_quantized(x, weight, bias))
        assert result[4].isnan().all()
        assert result.isnan().sum() == 30


def test_no_rows() -> None:
    _, weight, bias = packed(30, 20)
    assert ops.linear_quantized(torch.empty(0, 20), weight, bias).shape == (0, 30)


def test_what_does_not_fit_is_named() -> None:
    x, (_, weight, bias) = torch.randn(3, 20), packed(30, 20)
    with pytest.raises(ValueError, match=r"got x \(M, 15\)"):
        ops.linear_quantized(x[:, 5:], weight, bias)
    with pytest.raises(ValueError, match=r"bias \(129,\)"):
        ops.linear_quantized(x, weight, torch.zeros(129))
    with pytest.raises(ValueError, match="got x \\(3, 20, 1\\)"):
        ops.linear_quantized(x.unsqueeze(2), weight, bias)
    empty = weight._replace(packed=torch.empty(1, 0, 64, 4, dtype=torch.int8))
    with pytest.raises(ValueError, match="rows of 0 values"):
        ops.linear_quantized(x[:, :0], empty, bias)
    with pytest.raises(ValueError, match="activation 'tanh'"):
        ops.linear_quantized(x, weight, bias, "tanh")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"packed torch\.int32"):
        ops.linear_quantized(x, weight._replace(packed=weight.packed.int()), bias)
    with pytest.raises(RuntimeError, match="contiguous"):
        ops.linear_quantized(torch.randn(20, 3).t(), weight, bias)
    with pytest.raises(RuntimeError, match="float32"):
        ops.linear_quantized(x.double(), weight, bias)


@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_opcheck(activation: str) -> None:
    x, (_, weight, bias) = torch.randn(5, 20), packed(70, 20)
    torch.library.opcheck(torch.ops.coldpress.linear_quantized.default, (x, *weight, bias, activation))
