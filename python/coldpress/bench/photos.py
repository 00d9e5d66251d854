"""Made-up photos, for a machine without any: files whose decoding costs about what those of ImageNet cost."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH, QUALITY = 400, 500, 90


def write_photos(directory: Path, count: int) -> None:
    """Write `count` different JPEG files of 0.2 megapixels and about 110 kB: soft shapes with some grain."""
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 15, (HEIGHT, WIDTH, 3))
    for number in range(count):
        soft = Image.fromarray(rng.integers(0, 256, (12, 15, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT), 3)
        pixels = np.clip(np.asarray(soft, dtype=np.float64) + np.roll(grain, number, axis=1), 0, 255)
        buffer = BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
        (directory / f"{number:05d}.jpg").write_bytes(buffer.getvalue())
