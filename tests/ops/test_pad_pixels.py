from __future__ import annotations

import pytest
import torch
from rule import assert_within_k, on_every_level

from coldpress import ops
from coldpress.ops.pad_pixels import pad_pixels_reference

SCALE, SHIFT = torch.tensor([0.017, 0.0175, 0.0174]), torch.tensor([-2.1, -2.0, -1.8])


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize("width", [1, 2, 5, 6, 16, 17, 33])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (3, 3, 3, 3), (0, 1, 2, 5)])
def test_sizes(width: int, padding: tuple[int, int, int, int]) -> None:
    images = pixels(2, 4, width, 3)
    ours = on_every_level(lambda: ops.pad_pixels(images, SCALE, SHIFT, padding=padding))
    assert_within_k(ours, lambda s, t: pad_pixels_reference(images, s, t, padding), SCALE, SHIFT)


def test_what_does_not_fit_is_named() -> None:
    assert ops.pad_pixels(pixels(0, 4, 4, 3), SCALE, SHIFT).shape == (0, 4, 4, 3)
    with pytest.raises(ValueError, match=r"expected uint8 \(B, height, width, 3\)"):
        ops.pad_pixels(torch.rand(1, 4, 4, 3), SCALE, SHIFT)
    with pytest.raises(ValueError, match="no negative padding"):
        ops.pad_pixels(pixels(1, 4, 4, 3), SCALE, SHIFT, padding=(0, 0, -1, 0))


def test_opcheck() -> None:
    torch.library.opcheck(torch.ops.coldpress.pad_pixels.default, (pixels(2, 4, 5, 3), SCALE, SHIFT, [1, 0, 2, 3]))
