"""The ways of a GPU through attention, on a CPU: sequences of one length as they lie, others padded."""

from __future__ import annotations

import pytest
import torch

from coldpress import ops
from coldpress.ops.attention_cuda import varlen_attention_cuda
from coldpress.ops.varlen_attention import varlen_attention_reference

H, D = 3, 16
SCALE = 0.25


def packed(lengths: list[int], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values as views into one projection, and bounds."""
    qkv = torch.randn(sum(lengths), 3, H, D).to(dtype)
    return *qkv.unbind(1), torch.tensor([0, *lengths]).cumsum(0).int()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("lengths", [[5, 1, 17, 9], [8, 8, 8]])
@pytest.mark.parametrize("extra", ["nothing", "bias", "window", "causal", "keys", "one query"])
def test_every_way_is_the_reference(extra: str, lengths: list[int], dtype: torch.dtype, *, known: bool) -> None:
    q, k, v, ends = packed(lengths, dtype)
    asked = ends
    if extra == "one query":
        q, asked = q[ends[:-1].long()].contiguous(), torch.arange(len(ends), dtype=torch.int32)
    sides = {"window": (3, 2), "causal": (-1, 0)}.get(extra, (-1, -1))
    bias = torch.randn(H, 2 * max(lengths) - 1) if extra == "bias" else None
    keys = torch.randn(sum(lengths)) if extra == "keys" else None
    args = (q, k, v, ends, asked, SCALE, False, bias, *sides, keys)
    with ops.known_lengths(max(lengths) if known else None, equal=len(set(lengths)) == 1):
        found = varlen_attention_cuda(*args)
    expected = varlen_attention_reference(*args)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=2e-6 if dtype == torch.float32 else 0.02, rtol=0.01)


def test_a_sequence_may_be_shorter_than_what_is_known() -> None:
    q, k, v, ends = packed([5, 1, 17], torch.float32)
    expected = varlen_attention_reference(q, k, v, ends, ends, SCALE, False)
    with ops.known_lengths(64):
        assert torch.allclose(varlen_attention_cuda(q, k, v, ends, ends, SCALE, False), expected, atol=2e-6)


def test_places_of_tokens() -> None:
    begins, places = ops.token_places(torch.tensor([0, 3, 3, 5], dtype=torch.int32), 5)
    assert (begins.tolist(), places.tolist()) == ([0, 0, 0, 3, 3], [0, 1, 2, 0, 1])
    with pytest.raises(ValueError, match=r"token_places: got cu_seqlens torch.int64 \(2,\)"):
        ops.token_places(torch.tensor([0, 3]), 3)
