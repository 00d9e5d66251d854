"""The size of an image that keeps its shape and is cut into a limited number of patches.

Source: https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/siglip2/
image_processing_siglip2.py (Apache-2.0).
"""

from __future__ import annotations

import math

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
