"""uint8 images to normalised ones with a border of zeros: what the first convolution of a network reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from coldpress.ops._define import define


def pad_pixels_reference(
    images: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, padding: Sequence[int]
) -> torch.Tensor:
    """Plain torch."""
    top, bottom, left, right = padding
    maps = (images.float() * scale + shift).permute(0, 3, 1, 2)
    return F.pad(maps, (left, right, top, bottom)).permute(0, 2, 3, 1).contiguous()


def _fake(images: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
    B, height, width, C = images.shape
    top, bottom, left, right = padding
    return images.new_empty(B, height + top + bottom, width + left + right, C, dtype=torch.float32)


_pad_pixels = define(
    "pad_pixels(Tensor images, Tensor scale, Tensor shift, int[] padding) -> Tensor",
    reference=pad_pixels_reference,
    fake=_fake,
)


def pad_pixels(
    images: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    *,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> torch.Tensor:
    """Normalise images and put zeros around them, so that a convolution needs no border of its own.

    Parameters
    ----------
    images : (B, height, width, 3) uint8, contiguous.
    scale, shift : (3,) float32; a value becomes ``pixel * scale[c] + shift[c]``.
    padding : zeros around the normalised image: top, bottom, left, right.

    Returns
    -------
    (B, top + height + bottom, left + width + right, 3) float32.

    Raises
    ------
    ValueError
        If `images` has another shape or dtype, or `scale` or `shift` is not (3,).
    """
    if images.dim() != 4 or images.shape[3] != 3 or images.dtype != torch.uint8:
        raise ValueError(f"pad_pixels: got {images.dtype} {tuple(images.shape)}, expected uint8 (B, height, width, 3)")
    if scale.shape != (3,) or shift.shape != (3,) or min(padding) < 0:
        raise ValueError(
            f"pad_pixels: got scale {tuple(scale.shape)}, shift {tuple(shift.shape)}, padding {padding}; "
            "expected (3,) each, and no negative padding"
        )
    return _pad_pixels(images, scale, shift, padding)  # type: ignore[no-any-return]
