from __future__ import annotations

import pytest
import torch
from rule import TAILS, assert_within_k, on_every_level

from coldpress import ops
from coldpress.ops.pool import pool_reference

POOLINGS = ("mean", "cls", "last")


def bounds(*lengths: int) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("D", TAILS)
def test_tails(D: int, pooling: str, *, normalize: bool) -> None:
    tokens, ends = torch.randn(30, D), bounds(1, 9, 20)
    ours = on_every_level(lambda: ops.pool(tokens, ends, pooling, normalize=normalize))  # type: ignore[arg-type]
    assert_within_k(ours, lambda t: pool_reference(t, ends, pooling, normalize, t.dtype), tokens)


@pytest.mark.parametrize("T", [31, 32, 33, 64, 65, 784, 5000])
def test_rounding_does_not_grow_with_the_sequence(T: int) -> None:
    tokens, ends = torch.rand(T + 3, 48) + 0.5, bounds(3, T)
    exact = pool_reference(tokens.double(), ends, "mean", False, torch.float64)
    for ours in (
        on_every_level(lambda: ops.pool(tokens, ends, "mean")),
        pool_reference(tokens, ends, "mean", False, torch.float32),
    ):
        assert ((ours - exact).norm() / exact.norm()) < 3e-7  # 1.1e-6 at 5000 when summed in one go


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_cast_rounds_the_float32_vector(dtype: torch.dtype) -> None:
    tokens, ends = torch.randn(30, 50), bounds(10, 20)
    full = ops.pool(tokens, ends, "mean", normalize=True)
    assert torch.equal(ops.pool(tokens, ends, "mean", normalize=True, dtype=dtype), full.to(dtype))


def test_a_sequence_depends_on_itself_alone() -> None:
    tokens = torch.randn(60, 33)
    whole = ops.pool(tokens, bounds(7, 1, 52), "mean", normalize=True)
    assert torch.equal(ops.pool(tokens[8:].clone(), bounds(52), "mean", normalize=True)[0], whole[2])


def test_zero_and_nan() -> None:
    assert torch.equal(ops.pool(torch.zeros(4, 8), bounds(4), "mean", normalize=True), torch.zeros(1, 8))
    tokens = torch.randn(6, 8)
    tokens[0, 0] = float("nan")
    ours = on_every_level(lambda: ops.pool(tokens, bounds(3, 3), "mean", normalize=True))
    assert ours.isnan().all(dim=1).tolist() == [True, False]  # as in plain torch: the norm is NaN, so every value is
    assert ours[1].isfinite().all()


def test_what_does_not_fit_is_named() -> None:
    tokens = torch.randn(6, 8)
    assert ops.pool(tokens[:0], bounds(), "mean").shape == (0, 8)
    with pytest.raises(ValueError, match=r"expected \(T, D\), int32 \(B \+ 1,\)"):
        ops.pool(tokens[0], bounds(6), "mean")
    with pytest.raises(ValueError, match="expected float32, float16 or bfloat16"):
        ops.pool(tokens, bounds(6), "mean", dtype=torch.int8)
    with pytest.raises(RuntimeError, match="sequence 1 has 0 tokens"):
        ops.pool(tokens, bounds(3, 0, 3), "mean")
    with pytest.raises((ValueError, RuntimeError), match="pooling"):
        ops.pool(tokens, bounds(6), "median")  # type: ignore[arg-type]


def test_opcheck() -> None:
    args = (torch.randn(6, 8), bounds(2, 4), "mean", True, torch.float16)
    torch.library.opcheck(torch.ops.coldpress.pool.default, args)
