"""Resizing a ragged batch as a GPU does, here in plain torch: the bytes of the CPU path, which are Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coldpress import ops
from coldpress.ops import Axis

_image = pytest.importorskip("coldpress._image", reason="the compiled image part is missing")

SIZES = [(40, 60), (33, 21), (7, 5), (24, 24), (1, 90), (200, 12), (12, 200), (24, 31), (64, 24), (3, 3)]
TRANSFORMS = [
    {"shortest_edge": 28, "crop": (24, 24)},
    {"shortest_edge": 20, "crop": (24, 24), "half_to_even": True},
    {"exact": (24, 24)},
    {"exact": (24, 30), "crop": (24, 24)},
    {"crop": (24, 24)},
]


@pytest.mark.parametrize("kind", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
@pytest.mark.parametrize("options", TRANSFORMS, ids=str)
def test_bytes_are_those_of_the_cpu_path(options: dict[str, object], kind: str) -> None:
    transform = _image.Transform(**options, filter=kind)
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    images += [np.full((50, 40, 3), 255, np.uint8), (draw.random((50, 40, 3)) > 0.5).astype(np.uint8) * 255]
    plans = []
    for image in images:
        y, x, vertical_first = _image.resize_plan(*image.shape[:2], transform)
        plans.append((image.shape[:2], Axis(*y), Axis(*x), vertical_first))
    pixels = torch.from_numpy(np.concatenate([image.ravel() for image in images]))
    found = ops.resize_images(pixels, ops.plan_batch(plans), (24, 24)).numpy()
    for image, ours in zip(images, found, strict=True):
        assert np.array_equal(ours, _image.resize(image, transform)), image.shape


def test_no_image_and_what_does_not_fit() -> None:
    empty = ops.plan_batch([])
    assert ops.resize_images(torch.zeros(0, dtype=torch.uint8), empty, (24, 24)).shape == (0, 24, 24, 3)
    with pytest.raises(ValueError, match=r"resize_images: got pixels torch.float32 \(3,\)"):
        ops.resize_images(torch.zeros(3), empty, (24, 24))
