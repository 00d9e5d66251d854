"""uint8 images to normalised patches in one pass, so that pixels travel as bytes and a ViT starts with a product.

Source: Dosovitskiy et al., *An Image is Worth 16x16 Words* (2020), https://arxiv.org/abs/2010.11929.
"""

from __future__ import annotations

import torch

from coldpress.ops._define import define


def patchify_reference(images: torch.Tensor, patch: int, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Plain torch."""
    B, height, width, C = images.shape
    values = (images.float() * scale + shift).to(scale.dtype)
    grid = values.view(B, height // patch, patch, width // patch, patch, C)
    return grid.permute(0, 1, 3, 5, 2, 4).reshape(-1, C * patch * patch)


def _fake(images: torch.Tensor, patch: int, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    B, height, width, C = images.shape
    count = B * (height // patch) * (width // patch)
    return images.new_empty(count, C * patch * patch, dtype=scale.dtype)


_patchify = define(
    "patchify(Tensor images, int patch, Tensor scale, Tensor shift) -> Tensor",
    reference=patchify_reference,
    fake=_fake,
    compiled=("CPU", "CUDA"),
)


def patchify(images: torch.Tensor, patch: int, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Cut images into patches and normalise them.

    Parameters
    ----------
    images : (B, height, width, 3) uint8, contiguous.
    patch : side of a square patch in pixels; divides height and width.
    scale, shift : (3,) float32, on a GPU float16 and bfloat16 too; a value becomes ``pixel * scale[c] + shift[c]``.

    Returns
    -------
    (B * T, 3 * patch * patch) in the dtype of `scale`, T patches an image row by row, each laid out channel, row,
    column like the weight of a convolution.

    Raises
    ------
    ValueError
        If `images` has another shape or dtype or is no multiple of `patch`, or `scale` or `shift` is not (3,).
    """
    if images.dim() != 4 or images.shape[3] != 3 or images.dtype != torch.uint8:
        raise ValueError(f"patchify: got {images.dtype} {tuple(images.shape)}, expected uint8 (B, height, width, 3)")
    if patch < 1 or images.shape[1] % patch or images.shape[2] % patch:
        raise ValueError(
            f"patchify: got {images.shape[1]}x{images.shape[2]} pixels, expected multiples of patch {patch}"
        )
    if scale.shape != (3,) or shift.shape != (3,):
        raise ValueError(f"patchify: got scale {tuple(scale.shape)}, shift {tuple(shift.shape)}; expected (3,) each")
    return _patchify(images, patch, scale, shift)  # type: ignore[no-any-return]
