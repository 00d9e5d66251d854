from __future__ import annotations

import math

import pytest
import torch
from rule import TAILS, assert_within_k, on_every_level

from coldpress import ops
from coldpress.ops.varlen_attention import varlen_attention_reference


def bounds(*lengths: int) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, ends: torch.Tensor, scale: float) -> torch.Tensor:
    return varlen_attention_reference(q, k, v, ends, ends, scale, words=False)


def fused(tokens: int, heads: int, width: int, spread: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Views into one projection, as the attention layer hands them over."""
    return (torch.randn(tokens, 3, heads, width) * spread).unbind(1)


@pytest.mark.parametrize("T", TAILS)
def test_sequence_lengths(T: int) -> None:
    q, k, v = fused(T + 5, 3, 32)
    ends = bounds(2, T, 3)
    ours = on_every_level(lambda: ops.varlen_attention(q, k, v, ends, scale=32**-0.5))
    assert_within_k(ours, reference, q, k, v, ends, 32**-0.5)


@pytest.mark.parametrize("width", TAILS)
def test_head_widths(width: int) -> None:
    q, k, v = fused(21, 2, width)
    ends = bounds(20, 1)
    ours = on_every_level(lambda: ops.varlen_attention(q, k, v, ends, scale=width**-0.5))
    assert_within_k(ours, reference, q, k, v, ends, width**-0.5)


@pytest.mark.parametrize("spread", [1e-3, 10.0, 100.0])
def test_extreme_scores(spread: float) -> None:
    q, k, v = fused(50, 2, 16, spread)
    ours = ops.varlen_attention(q, k, v, bounds(50), scale=1.0)
    assert ours.isfinite().all()
    assert_within_k(ours, reference, q, k, v, bounds(50), 1.0)


@pytest.mark.parametrize("T", [*TAILS, 129, 300])
@pytest.mark.parametrize("width", [1, 7, 16, 32, 33, 64, 130])
def test_words(T: int, width: int) -> None:
    """Close to the reference on words, which may round another way once in a while, and to fp32 by the step of each."""
    q, k, v = fused(T + 5, 2, width)
    ends = bounds(2, T, 3)
    ours = on_every_level(lambda: ops.varlen_attention(q, k, v, ends, scale=width**-0.5, words=True))
    twin = varlen_attention_reference(q, k, v, ends, ends, width**-0.5, words=True)
    assert (ours - twin).abs().max() < 2e-3
    assert (ours - twin).abs().mean() < 3e-5
    exact = ops.varlen_attention(q, k, v, ends, scale=width**-0.5)
    assert (ours - exact).abs().max() < 5e-3
    assert (ours - exact).norm() < 1e-3 * exact.norm()


def test_words_follow_a_column_far_out() -> None:
    """A key column a thousand times as large as the others costs them nothing: every column has a scale of its own."""
    q, k, v = (t.clone() for t in fused(60, 1, 64))
    k[..., 5] *= 1000
    q[..., 5] /= 1000
    v[..., 7] *= 1000
    ours = ops.varlen_attention(q, k, v, bounds(60), scale=0.125, words=True)
    exact = ops.varlen_attention(q, k, v, bounds(60), scale=0.125)
    error = (ours - exact).norm(dim=0) / exact.norm(dim=0)
    assert error.max() < 3e-3


@pytest.mark.parametrize("words", [False, True])
def test_queries_of_some_tokens_only(words: bool) -> None:
    lengths = (5, 1, 40, 17, 0, 64)
    q, k, v = fused(sum(lengths), 3, 32)
    ends = bounds(*lengths)
    whole = ops.varlen_attention(q, k, v, ends, scale=0.2, words=words)
    asked = torch.tensor([1, 3, 5, 10, 11, 12, 62, 63])
    some = ops.varlen_attention(q[asked], k, v, ends, scale=0.2, cu_seqlens_q=bounds(2, 1, 3, 1, 0, 1), words=words)
    assert torch.equal(some, whole[asked])
    with pytest.raises(ValueError, match="for queries"):
        ops.varlen_attention(q[asked], k, v, ends, scale=0.2)


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_sequence_depends_on_itself_alone(threads: int, words: bool) -> None:
    lengths = (5, 1, 40, 17, 64)
    q, k, v = fused(sum(lengths), 4, 32)
    whole = ops.varlen_attention(q, k, v, bounds(*lengths), scale=0.2, words=words)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        begin = 0
        for n in lengths:
            part = slice(begin, begin + n)
            own = ops.varlen_attention(q[part], k[part], v[part], bounds(n), scale=0.2, words=words)
            assert torch.equal(own, whole[part])
            begin += n
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_sequence(bad: float, words: bool) -> None:
    q, k, v = (t.clone() for t in fused(10, 1, 8))
    for spoilt in (k, v):
        spoilt[2] = bad
        spread = ops.varlen_attention(q, k, v, bounds(4, 6), scale=1.0, words=words).isfinite().all(dim=1)
        assert spread.tolist() == [False] * 4 + [True] * 6
        spoilt[2] = 0
    q[5] = bad
    spread = on_every_level(lambda: ops.varlen_attention(q, k, v, bounds(4, 6), scale=1.0, words=words))
    assert spread.isfinite().all(dim=1).tolist() == [row != 5 for row in range(10)]


def test_no_payload_of_a_nan_makes_it_a_number() -> None:
    nans = torch.tensor([0x7FC00001, 0x7FC001FF, 0x7F800001, -0x003FFFFF], dtype=torch.int32).view(torch.float32)
    assert nans.isnan().all()
    for nan in nans:
        q, k, v = (t.clone() for t in fused(7, 1, 8))
        q[3, 0, 0] = nan
        ours = on_every_level(lambda: ops.varlen_attention(q, k, v, bounds(7), scale=1.0))  # noqa: B023
        assert ours.isnan().all(dim=1).tolist() == [row == 3 for row in range(7)]


@pytest.mark.parametrize("shape", [(9, 1, 8), (1, 4, 8), (9, 4, 1)])
def test_strides_of_axes_of_one_do_not_matter(shape: tuple[int, int, int]) -> None:
    q, k, v = (torch.randn(shape) for _ in range(3))
    strides = [99 if n == 1 else s for n, s in zip(shape, q.stride(), strict=True)]
    odd = [t.as_strided(shape, strides) for t in (q, k, v)]
    ends = bounds(shape[0])
    assert torch.equal(ops.varlen_attention(*odd, ends, scale=1.0), ops.varlen_attention(q, k, v, ends, scale=1.0))


def test_what_does_not_fit_is_named() -> None:
    q, k, v = fused(10, 2, 8)
    assert ops.varlen_attention(q[:0], k[:0], v[:0], bounds(), scale=1.0).shape == (0, 16)
    with pytest.raises(ValueError, match=r"expected \(T, H, D\) three times"):
        ops.varlen_attention(q, k[1:], v, bounds(10), scale=1.0)
    with pytest.raises(RuntimeError, match="cu_seqlens must run from 0 to the number of tokens"):
        ops.varlen_attention(q, k, v, bounds(9), scale=1.0)
    with pytest.raises(RuntimeError, match="contiguous heads and widths"):
        ops.varlen_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), bounds(10), scale=1.0)
    with pytest.raises(RuntimeError, match="sequence 1 has -2 tokens"):
        ops.varlen_attention(q, k, v, torch.tensor([0, 12, 10]).int(), scale=1.0)
    with pytest.raises(ValueError, match=r"cu_seqlens torch\.int64"):
        ops.varlen_attention(q, k, v, bounds(10).long(), scale=1.0)


@pytest.mark.parametrize("words", [False, True])
def test_opcheck(words: bool) -> None:
    q, k, v = fused(10, 2, 8)
    ends = bounds(4, 6)
    torch.library.opcheck(torch.ops.coldpress.varlen_attention.default, (q, k, v, ends, ends, 0.3, words))


WINDOWS = [(-1, 0), (0, -1), (0, 0), (5, 5), (16, 3), (64, 64), (63, 0), (200, 200)]


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("T", [1, 7, 33, 64, 65, 130, 200])
def test_windows(T: int, window: tuple[int, int], *, words: bool) -> None:
    q, k, v = fused(T + 5, 2, 32)
    ends = bounds(2, T, 3)
    ours = on_every_level(lambda: ops.varlen_attention(q, k, v, ends, scale=32**-0.5, words=words, window=window))
    args = (q, k, v, ends, ends, 32**-0.5, words, None, *window)
    if words:
        assert (ours - varlen_attention_reference(*args)).abs().max() < 2e-3
    else:
        assert_within_k(ours, varlen_attention_reference, *args)
    alone = ops.varlen_attention(
        *(t[2 : 2 + T] for t in (q, k, v)), bounds(T), scale=32**-0.5, words=words, window=window
    )
    assert torch.equal(alone, ours[2 : 2 + T])


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("window", [(-1, -1), (10, 2)])
@pytest.mark.parametrize("T", [1, 15, 64, 100])
def test_biases_by_distance(T: int, window: tuple[int, int], *, words: bool) -> None:
    q, k, v = fused(T + 3, 3, 16)
    ends, bias = bounds(T, 3), torch.randn(3, 2 * 104 + 1)
    ours = on_every_level(
        lambda: ops.varlen_attention(q, k, v, ends, scale=0.25, words=words, window=window, bias=bias)
    )
    args = (q, k, v, ends, ends, 0.25, words, bias, *window)
    if words:
        assert (ours - varlen_attention_reference(*args)).abs().max() < 2e-3
    else:
        assert_within_k(ours, varlen_attention_reference, *args)


def test_a_bias_of_zero_and_a_window_of_all_change_no_bit() -> None:
    q, k, v = fused(90, 2, 32)
    plain = ops.varlen_attention(q, k, v, bounds(90), scale=0.2)
    assert torch.equal(plain, ops.varlen_attention(q, k, v, bounds(90), scale=0.2, bias=torch.zeros(2, 179)))
    assert torch.equal(plain, ops.varlen_attention(q, k, v, bounds(90), scale=0.2, window=(89, 89)))


def test_windows_and_biases_that_do_not_fit_are_named() -> None:
    q, k, v = fused(10, 2, 8)
    with pytest.raises(ValueError, match=r"bias \(2, 8\), expected \(2, an odd number\)"):
        ops.varlen_attention(q, k, v, bounds(10), scale=1.0, bias=torch.zeros(2, 8))
    with pytest.raises(ValueError, match="cu_seqlens_q=None with a window"):
        ops.varlen_attention(q[:1], k, v, bounds(10), scale=1.0, cu_seqlens_q=bounds(1), window=(1, 1))
    with pytest.raises(ValueError, match=r"window \(-2, 0\)"):
        ops.varlen_attention(q, k, v, bounds(10), scale=1.0, window=(-2, 0))
    with pytest.raises(RuntimeError, match="no sequence be longer than bias reaches"):
        ops.varlen_attention(q, k, v, bounds(10), scale=1.0, bias=torch.zeros(2, 17))


def test_opcheck_with_distances() -> None:
    q, k, v = fused(10, 2, 8)
    ends, bias = bounds(4, 6), torch.randn(2, 11)
    torch.library.opcheck(torch.ops.coldpress.varlen_attention.default, (q, k, v, ends, ends, 0.3, False, bias, 3, 2))


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("T", TAILS)
def test_biases_of_keys(T: int, *, words: bool) -> None:
    q, k, v = fused(T + 3, 3, 16)
    ends, bias = bounds(T, 3), torch.rand(T + 3) * 3
    ours = on_every_level(lambda: ops.varlen_attention(q, k, v, ends, scale=0.25, words=words, key_bias=bias))
    args = (q, k, v, ends, ends, 0.25, words, None, -1, -1, bias)
    if words:
        assert (ours - varlen_attention_reference(*args)).abs().max() < 2e-3
    else:
        assert_within_k(ours, varlen_attention_reference, *args)
    alone = ops.varlen_attention(
        *(t[T:] for t in (q, k, v)), bounds(3), scale=0.25, words=words, key_bias=bias[T:].contiguous()
    )
    assert torch.equal(alone, ours[T:])
    firsts = ends[:-1].long()
    asked = ops.varlen_attention(
        q[firsts], k, v, ends, scale=0.25, cu_seqlens_q=bounds(1, 1), words=words, key_bias=bias
    )
    assert torch.equal(asked, ours[firsts])


def test_a_key_with_the_logarithm_of_three_counts_as_three() -> None:
    q, k, v = fused(20, 2, 16)
    bias = torch.zeros(20)
    bias[4] = math.log(3)
    thrice = [torch.cat([t, t[4:5], t[4:5]]) for t in (k, v)]
    expected = ops.varlen_attention(q, *thrice, bounds(22), scale=0.25, cu_seqlens_q=bounds(20))
    ours = ops.varlen_attention(q, k, v, bounds(20), scale=0.25, key_bias=bias)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"key_bias \(19,\), expected \(20,\)"):
        ops.varlen_attention(q, k, v, bounds(20), scale=0.25, key_bias=bias[1:])
