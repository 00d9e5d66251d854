from __future__ import annotations

import pytest
import torch
from rule import assert_within_k, on_every_level
from torch.nn import functional as F

from coldpress import ops
from coldpress.ops.patchify import patchify_reference

SCALE, SHIFT = torch.tensor([0.017, 0.0175, 0.0174]), torch.tensor([-2.1, -2.0, -1.8])


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize("patch", [1, 2, 3, 7, 8, 14, 15, 16, 17, 32])
def test_patch_sizes(patch: int) -> None:
    images = pixels(3, 2 * patch, 3 * patch, 3)
    ours = on_every_level(lambda: ops.patchify(images, patch, SCALE, SHIFT))
    assert_within_k(ours, lambda s, t: patchify_reference(images.to(torch.uint8), patch, s, t), SCALE, SHIFT)


def test_a_product_with_it_is_the_convolution() -> None:
    images, weight = pixels(2, 32, 48, 3), torch.randn(5, 3, 16, 16)
    values = (images.double() * SCALE + SHIFT).permute(0, 3, 1, 2)
    expected = F.conv2d(values, weight.double(), stride=16).flatten(2).transpose(1, 2).flatten(0, 1)
    ours = ops.patchify(images, 16, SCALE, SHIFT).double() @ weight.double().flatten(1).t()
    assert torch.allclose(ours, expected, atol=1e-4)


def test_what_does_not_fit_is_named() -> None:
    assert ops.patchify(pixels(0, 16, 16, 3), 16, SCALE, SHIFT).shape == (0, 768)
    with pytest.raises(ValueError, match=r"expected uint8 \(B, height, width, 3\)"):
        ops.patchify(torch.rand(1, 16, 16, 3), 16, SCALE, SHIFT)
    with pytest.raises(ValueError, match="expected multiples of patch 16"):
        ops.patchify(pixels(1, 16, 20, 3), 16, SCALE, SHIFT)
    with pytest.raises((ValueError, RuntimeError), match="contiguous"):
        ops.patchify(pixels(1, 3, 16, 16).permute(0, 2, 3, 1), 16, SCALE, SHIFT)


def test_opcheck() -> None:
    torch.library.opcheck(torch.ops.coldpress.patchify.default, (pixels(2, 8, 12, 3), 4, SCALE, SHIFT))
