from __future__ import annotations

import pytest
import torch
from rule import TAILS, on_every_level

from coldpress import ops
from coldpress.ops.rope import rope_reference


def angles(tokens: int, half: int) -> tuple[torch.Tensor, torch.Tensor]:
    turned = torch.randn(tokens, half) * 10
    return turned.cos(), turned.sin()


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Queries and keys of a fused projection turned in a copy of it."""
    copy = x.clone()
    ops.rope_(copy.flatten(1, 2)[:, : 2 * x.shape[2]], cos, sin)
    return copy


@pytest.mark.parametrize("half", TAILS)
def test_queries_and_keys_turn_and_values_stay(half: int) -> None:
    x, (cos, sin) = torch.randn(35, 3, 2, 2 * half), angles(35, half)
    ours = on_every_level(lambda: rotated(x, cos, sin))
    expected = x.clone()
    for part in (0, 1):
        rope_reference(expected[:, part], cos, sin)
    assert torch.equal(ours, expected)
    assert torch.equal(ours[:, 2], x[:, 2])


def test_scores_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(1, 1, 8), torch.randn(1, 1, 8)
    turned = torch.arange(20)[:, None] * torch.tensor([1.0, 0.1, 0.01, 0.001])
    rows = [vector.repeat(20, 1, 1) for vector in (q, k)]
    for row in rows:
        ops.rope_(row, turned.cos(), turned.sin())
    scores = rows[0][:, 0] @ rows[1][:, 0].T
    assert torch.allclose(scores[5:, 5:], scores[:15, :15], atol=1e-5)


def test_angles_of_zero_change_no_bit() -> None:
    x = torch.randn(5, 2, 16)
    before = x.clone()
    ops.rope_(x, torch.ones(5, 8), torch.zeros(5, 8))
    assert torch.equal(x, before)


def test_what_does_not_fit_is_named() -> None:
    ops.rope_(torch.empty(0, 2, 4), torch.empty(0, 2), torch.empty(0, 2))
    with pytest.raises(ValueError, match=r"expected \(T, H, D\) and \(T, D / 2\) twice"):
        ops.rope_(torch.randn(3, 2, 8), *angles(3, 8))
    with pytest.raises(ValueError, match=r"got x \(3, 2, 8\), cos \(4, 4\)"):
        ops.rope_(torch.randn(3, 2, 8), *angles(4, 4))
    with pytest.raises(RuntimeError, match="contiguous heads and widths"):
        ops.rope_(torch.randn(3, 8, 2).transpose(1, 2), *angles(3, 4))


def test_opcheck() -> None:
    torch.library.opcheck(torch.ops.coldpress.rope_.default, (torch.randn(5, 2, 8), *angles(5, 4)))
