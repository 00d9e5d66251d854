from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule import TAILS, assert_within_k, on_every_level

from coldpress import ops
from coldpress.ops.linear import linear_reference, unpack_weight

ACTIVATIONS = ("none", "gelu", "gelu_tanh", "relu", "quick_gelu", "silu")


def arguments(M: int, K: int, N: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    weight = torch.randn(N, K) / max(K, 1) ** 0.5
    return torch.randn(M, K), ops.pack_weight(weight), torch.randn(N)


@pytest.mark.parametrize("size", TAILS)
@pytest.mark.parametrize("axis", ["M", "K", "N"])
def test_tails(size: int, axis: str) -> None:
    args = arguments(**({"M": 13, "K": 24, "N": 70} | {axis: size}))
    assert_within_k(on_every_level(lambda: ops.linear(*args)), linear_reference, *args, "none")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_over_their_whole_range(activation: str) -> None:
    x = torch.cat([torch.linspace(-30, 30, 4001), torch.tensor([0.0, -0.0, 1e-30, -1e-30, 88.0, -88.0, 1e4, -1e4])])
    packed, bias = ops.pack_weight(torch.ones(1, 1)), torch.zeros(1)
    ours = on_every_level(lambda: ops.linear(x[:, None], packed, bias, activation))  # type: ignore[arg-type]
    assert_within_k(ours, linear_reference, x[:, None], packed, bias, activation)
    relative = (ours - linear_reference(x[:, None].double(), packed.double(), bias.double(), activation)).abs()
    assert (relative <= 4e-7 * x[:, None].abs() + 1e-37).all()


def test_real_sizes() -> None:
    args = arguments(197, 768, 3072)
    assert_within_k(ops.linear(*args, "gelu"), linear_reference, *args, "gelu")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 120), st.integers(0, 119), st.integers(1, 3))
def test_a_row_depends_on_itself_alone(M: int, row: int, threads: int) -> None:
    x, packed, bias = arguments(M, 40, 130)
    row %= M
    before = torch.get_num_threads()
    whole = ops.linear(x, packed, bias, "gelu")
    torch.set_num_threads(threads)
    try:
        assert torch.equal(ops.linear(x[row : row + 1].clone(), packed, bias, "gelu")[0], whole[row])
        assert torch.equal(ops.linear(x, packed, bias, "gelu"), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("N", [1, 63, 64, 65, 200])
def test_packing_loses_nothing(N: int) -> None:
    weight = torch.randn(N, 5)
    assert torch.equal(unpack_weight(ops.pack_weight(weight), N), weight)


def test_nan_reaches_its_own_row_only() -> None:
    x, packed, bias = arguments(9, 20, 30)
    x[4, 3] = float("nan")
    for activation in ACTIVATIONS:
        bad = ops.linear(x, packed, bias, activation).isnan()  # type: ignore[arg-type]
        assert bad[4].all(), activation
        assert bad.sum() == 30


def test_no_rows() -> None:
    _, packed, bias = arguments(1, 20, 30)
    assert ops.linear(torch.empty(0, 20), packed, bias).shape == (0, 30)


def test_what_does_not_fit_is_named() -> None:
    x, packed, bias = arguments(3, 20, 30)
    with pytest.raises(ValueError, match=r"got x \(3, 19\)"):
        ops.linear(x[:, 1:], packed, bias)
    with pytest.raises((ValueError, RuntimeError), match="contiguous"):
        ops.linear(torch.randn(20, 3).t(), packed, bias)
    with pytest.raises(RuntimeError, match="float32"):
        ops.linear(x.double(), packed, bias)


@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_opcheck(activation: str) -> None:
    torch.library.opcheck(torch.ops.coldpress.linear.default, (*arguments(5, 20, 70), activation))
