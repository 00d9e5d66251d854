from __future__ import annotations

import pytest
import torch
from rule import TAILS, on_every_level

from coldpress import ops
from coldpress.ops.merge_tokens import merge_tokens_cuda, merge_tokens_reference

Merged = tuple[torch.Tensor, torch.Tensor]


def bounds(*lengths: int) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def images(lengths: tuple[int, ...], D: int = 20, W: int = 8) -> tuple[torch.Tensor, ...]:
    """Tokens, keys, sizes from 1 to 4, bounds."""
    T = sum(lengths)
    return torch.randn(T, D), torch.randn(T, W), torch.randint(1, 5, (T,), dtype=torch.int32), bounds(*lengths)


def merge_on_every_level(*args: torch.Tensor, prefix: int, merged: int) -> Merged:
    rows = on_every_level(lambda: ops.merge_tokens(*args, prefix=prefix, merged=merged)[0])
    sizes = on_every_level(lambda: ops.merge_tokens(*args, prefix=prefix, merged=merged)[1])
    return rows, sizes


def assert_as_reference(ours: Merged, args: tuple[torch.Tensor, ...], prefix: int, merged: int) -> None:
    expected, sizes = merge_tokens_reference(args[0].double(), args[1].double(), *args[2:], prefix, merged)
    assert torch.equal(ours[1], sizes)
    torch.testing.assert_close(ours[0].double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("patches", [*TAILS, 130, 257])
def test_numbers_of_patches(patches: int, prefix: int) -> None:
    for merged in {0, min(3, patches // 2), patches // 2}:
        args = images((prefix + patches, prefix + 2 * merged))
        ours = merge_on_every_level(*args, prefix=prefix, merged=merged)
        assert_as_reference(ours, args, prefix, merged)


@pytest.mark.parametrize("width", TAILS)
@pytest.mark.parametrize("axis", ["D", "W"])
def test_widths(width: int, axis: str) -> None:
    args = images((21, 9), **{axis: width})
    assert_as_reference(merge_on_every_level(*args, prefix=1, merged=4), args, 1, 4)


def test_two_alike_become_their_average() -> None:
    """By hand: of six patches the second is most like the fifth, and stands for three."""
    keys = torch.tensor([[1, 0, 0], [0, 0, 2], [0, 1, 0], [1, 1, 1], [0, 0, 1], [-1, -1, 0]]).float()
    x, sizes = torch.arange(1.0, 7).unsqueeze(1), torch.tensor([1, 3, 1, 1, 1, 1], dtype=torch.int32)
    rows, left = merge_on_every_level(x, keys, sizes, bounds(6), prefix=0, merged=1)
    assert rows.flatten().tolist() == [1, 3, 4, (5 + 3 * 2) / 4, 6]
    assert left.tolist() == [1, 1, 1, 4, 1]


def test_ties_go_to_the_first() -> None:
    """Six equal patches: the first senders go, all to the first receiver."""
    x, sizes = torch.arange(1.0, 7).unsqueeze(1), torch.ones(6, dtype=torch.int32)
    args = x, torch.ones(6, 3), sizes, bounds(6)
    for found in (merge_on_every_level(*args, prefix=0, merged=2), merge_tokens_reference(*args, 0, 2)):
        assert found[0].flatten().tolist() == [pytest.approx((1 + 2 + 4) / 3), 3, 5, 6]
        assert found[1].tolist() == [3, 1, 1, 1]


def test_nothing_is_lost() -> None:
    """Sizes keep their sum, and so do tokens weighted by them; what is not merged keeps its bits, and the order."""
    x, keys, sizes, ends = images((40,))
    rows, left = ops.merge_tokens(x, keys, sizes, ends, prefix=2, merged=7)
    assert int(left.sum()) == int(sizes.sum())
    torch.testing.assert_close((rows * left[:, None]).sum(0), (x * sizes[:, None]).sum(0))
    assert torch.equal(rows[:2], x[:2])
    places = [int(found[0]) for row in rows if len(found := (x == row).all(1).nonzero().flatten())]
    assert len(places) >= 40 - 14
    assert places == sorted(places)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_image_depends_on_itself_alone(threads: int) -> None:
    lengths = (30, 9, 64, 31)
    x, keys, sizes, ends = images(lengths)
    whole, left = ops.merge_tokens(x, keys, sizes, ends, prefix=1, merged=4)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(ops.merge_tokens(x, keys, sizes, ends, prefix=1, merged=4)[0], whole)
        for i, (begin, n) in enumerate(zip(ends.tolist(), lengths, strict=False)):
            part, out = slice(begin, begin + n), slice(begin - 4 * i, begin - 4 * i + n - 4)
            own = ops.merge_tokens(x[part], keys[part], sizes[part], bounds(n), prefix=1, merged=4)
            assert torch.equal(own[0], whole[out])
            assert torch.equal(own[1], left[out])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 0.0])
def test_keys_that_cannot_be_compared(bad: float) -> None:
    """A whole image of them is merged all the same, and the other one does not notice."""
    x, keys, sizes, ends = images((11, 20))
    expected = ops.merge_tokens(x, keys, sizes, ends, prefix=1, merged=3)[0][8:]
    keys[:11] = bad
    rows, left = merge_on_every_level(x, keys, sizes, ends, prefix=1, merged=3)
    assert torch.equal(rows[8:], expected)
    assert int(left[:8].sum()) == int(sizes[:11].sum())
    assert rows.isfinite().all()


def test_what_does_not_fit_is_named() -> None:
    x, keys, sizes, ends = images((10, 7))
    assert ops.merge_tokens(x[:0], keys[:0], sizes[:0], bounds(), prefix=1, merged=3)[0].shape == (0, 20)
    with pytest.raises(RuntimeError, match="sequence 1 has 7 tokens, expected at least 9"):
        ops.merge_tokens(x, keys, sizes, ends, prefix=1, merged=4)
    with pytest.raises(ValueError, match=r"sizes torch.int64 \(17,\).*expected \(T, D\), \(T, W\), int32"):
        ops.merge_tokens(x, keys, sizes.long(), ends, prefix=1, merged=3)
    with pytest.raises(ValueError, match="prefix -1, merged 3; expected 0 or more"):
        ops.merge_tokens(x, keys, sizes, ends, prefix=-1, merged=3)


def test_opcheck() -> None:
    torch.library.opcheck(torch.ops.coldpress.merge_tokens.default, (*images((10, 12)), 1, 3))


def equal_images(B: int, T: int, kind: str, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    """Images of T tokens: "drawn" keys, some of them "nan", or keys of few "kinds", whose cosines have no rounding."""
    x, keys, sizes, ends = images((T,) * B)
    if kind == "nan":
        keys[torch.rand(len(keys)) < 0.3] = float("nan")
    if kind == "kinds":
        signs = torch.randint(0, 2, keys.shape).float() * 2 - 1
        few = torch.rand(len(keys), 1) < 0.5  # with one or four numbers of magnitude 1, a key is 1 or 2 long
        keys = signs * (torch.rand(keys.shape).argsort(1).argsort(1) < torch.where(few, 1, 4))
    return x.to(dtype), keys, sizes, ends


def merge_as_on_a_gpu(args: tuple[torch.Tensor, ...], T: int, prefix: int, merged: int) -> Merged:
    with ops.known_lengths(T, equal=True):
        return merge_tokens_cuda(*args, prefix, merged)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["drawn", "nan", "kinds"])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_all_images_of_a_gpu_at_once_are_the_reference(prefix: int, kind: str, dtype: torch.dtype) -> None:
    for patches in (1, 2, 3, 8, 17, 40):
        for merged in {0, min(1, patches // 2), patches // 3, patches // 2}:
            T = prefix + patches
            args = equal_images(4, T, kind, dtype)
            rows, sizes = merge_as_on_a_gpu(args, T, prefix, merged)
            expected, left = merge_tokens_reference(args[0].double(), *args[1:], prefix, merged)
            assert (rows.dtype, sizes.dtype) == (dtype, torch.int32)
            assert torch.equal(sizes, left)
            torch.testing.assert_close(rows.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)
            shape = (4, T - merged, 20)
            assert torch.equal(rows.view(shape)[:, :prefix], args[0].view(4, T, 20)[:, :prefix])


def test_on_a_gpu_an_image_keeps_its_bits_in_batches_of_one_shape() -> None:
    T, prefix, merged = 41, 1, 13
    args = equal_images(6, T, "kinds")
    rows, sizes = merge_as_on_a_gpu(args, T, prefix, merged)
    again, _ = merge_as_on_a_gpu(args, T, prefix, merged)
    assert torch.equal(again, rows)
    for place in range(6):
        others = equal_images(6, T, "nan")
        for other, tensor in zip(others[:3], args[:3], strict=True):
            other[place * T : (place + 1) * T] = tensor[2 * T : 3 * T]
        found, left = merge_as_on_a_gpu(others, T, prefix, merged)
        assert torch.equal(found.view(6, T - merged, -1)[place], rows.view(6, T - merged, -1)[2])
        assert torch.equal(left.view(6, -1)[place], sizes.view(6, -1)[2])


@pytest.mark.parametrize("known", [False, True])
def test_on_a_gpu_images_may_differ_in_length(*, known: bool) -> None:
    args = images((30, 9, 64))
    with ops.known_lengths(64 if known else None):
        found = merge_tokens_cuda(*args, 1, 4)
    assert_as_reference(found, args, 1, 4)


def test_on_a_gpu_what_does_not_fit_is_named_too() -> None:
    args = equal_images(2, 8, "drawn")
    for known in (None, 8):
        with (
            ops.known_lengths(known, equal=True),
            pytest.raises(RuntimeError, match="sequence 0 has 8 tokens, expected at least 9"),
        ):
            merge_tokens_cuda(*args, 1, 4)
    x, keys, sizes, _ = args
    assert merge_tokens_cuda(x[:0], keys[:0], sizes[:0], bounds(), 1, 4)[0].shape == (0, 20)
