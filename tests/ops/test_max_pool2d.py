from __future__ import annotations

import pytest
import torch
from rule import on_every_level

from coldpress import ops
from coldpress.ops.max_pool2d import max_pool2d_reference


@pytest.mark.parametrize("C", [1, 15, 16, 17, 64])
@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (2, 3)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 0, 1)])
def test_windows(C: int, kernel: tuple[int, int], stride: int, padding: tuple[int, int, int, int]) -> None:
    x = torch.randn(2, 7, 10, C)
    ours = on_every_level(lambda: ops.max_pool2d(x, kernel=kernel, stride=stride, padding=padding))
    assert torch.equal(ours, max_pool2d_reference(x, kernel, stride, padding))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(value: float) -> None:
    x = torch.randn(1, 6, 6, 20)
    x[0, 2, 3, 4] = value
    ours = on_every_level(lambda: ops.max_pool2d(x, kernel=(3, 3), stride=2, padding=(1, 1, 1, 1)))
    torch.testing.assert_close(ours, max_pool2d_reference(x, (3, 3), 2, (1, 1, 1, 1)), rtol=0, atol=0, equal_nan=True)


def test_what_does_not_fit_is_named() -> None:
    assert ops.max_pool2d(torch.randn(0, 6, 6, 4), kernel=(2, 2), stride=2).shape == (0, 3, 3, 4)
    with pytest.raises(ValueError, match="padding smaller than it"):
        ops.max_pool2d(torch.randn(1, 6, 6, 4), kernel=(2, 2), padding=(2, 0, 0, 0))


def test_opcheck() -> None:
    args = (torch.randn(2, 6, 7, 5), [3, 3], 2, [1, 1, 1, 1])
    torch.library.opcheck(torch.ops.coldpress.max_pool2d.default, args)
