"""Small pictures of images, for people to look at."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image


def thumbnail(file: Path, side: int, max_pixels: int) -> bytes:
    """A JPEG of an image, its longer side at most `side` pixels.

    Raises
    ------
    OSError, ValueError
        It is no image, damaged, or has more than `max_pixels`.
    """
    try:
        with Image.open(file) as image:
            if image.width * image.height > max_pixels:
                raise ValueError("too large")
            image.draft("RGB", (side, side))
            small = image.convert("RGB")
    except Image.DecompressionBombError as error:
        raise ValueError("too large") from error
    small.thumbnail((side, side))
    drawn = BytesIO()
    small.save(drawn, "JPEG", quality=85)
    return drawn.getvalue()
