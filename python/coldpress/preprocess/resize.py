"""The size that an image is brought to, and the way there without the compiled part.

Source: Hugging Face's processors and torchvision; sizes in patches as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/siglip2/image_processing_siglip2.py
(Apache-2.0).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from coldpress.types import ImageSpec

Pixels = npt.NDArray[np.uint8]

_EPS = 1e-5


def fit_patches(height: int, width: int, patch: int, most: int) -> tuple[int, int]:
    """Return the greatest (height, width), multiples of `patch`, at which an image has at most so many patches.

    Found by bisection of the scale as upstream does, so that the same images land on the same side of a multiple.
    """

    def scaled(scale: float) -> tuple[int, int]:
        return (
            max(patch, math.ceil(height * scale / patch) * patch),
            max(patch, math.ceil(width * scale / patch) * patch),
        )

    low, high = _EPS / 10, 100.0
    while high - low >= _EPS:
        middle = (low + high) / 2
        rows, columns = (side / patch for side in scaled(middle))
        low, high = (middle, high) if rows * columns <= most else (low, middle)
    return scaled(low)


def resized_size(spec: ImageSpec, height: int, width: int) -> tuple[int, int]:
    """(height, width) after the resize of `spec`, before its crop: what Hugging Face and torchvision compute."""
    match spec.resize:
        case ("exact", exact_height, exact_width):
            return int(exact_height), int(exact_width)
        case ("shortest_edge", edge) if width <= height:
            return int(edge * height / width), int(edge)
        case ("shortest_edge", edge):
            return int(edge), int(edge * width / height)
        case ("patches", side, most):
            return fit_patches(height, width, side, most)
        case _:
            return height, width


def centre_crop(pixels: Pixels, size: tuple[int, int], rounding: str = "down") -> Pixels:
    """The central (height, width) of an image; one that is smaller is surrounded by zeros."""
    spare = [have - want for have, want in zip(pixels.shape[:2], size, strict=True)]
    top, left = (s // 2 + int(rounding == "even" and s > 0 and s % 4 == 3) for s in spare)
    kept = pixels[max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
    result = np.zeros((*size, 3), np.uint8)
    y, x = max(-top, 0), max(-left, 0)
    result[y : y + kept.shape[0], x : x + kept.shape[1]] = kept
    return result


def resize_with_pillow(pixels: Pixels, size: tuple[int, int], resample: str) -> Pixels:
    """Resize one axis after the other, in the order of Pillow 13 whatever version is installed."""
    (height, width), (new_height, new_width) = pixels.shape[:2], size
    image, resampling = Image.fromarray(pixels), Image.Resampling[resample.upper()]
    if resampling is not Image.Resampling.NEAREST:
        vertical_first = height - new_height > 2 * max(width - new_width, 0)
        image = image.resize((width, new_height) if vertical_first else (new_width, height), resampling)
    return np.asarray(image.resize((new_width, new_height), resampling))
