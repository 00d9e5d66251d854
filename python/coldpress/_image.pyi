"""The compiled image path (`csrc/image`): JPEG decoding and Pillow-exact resizing without the GIL."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

class Transform:
    """How an image is resized and centre-cropped; sizes are (height, width).

    `half_to_even` rounds the offset of the crop as torchvision does, else half a pixel is dropped.
    `fast_decode` lets JPEG files be decoded at 1/2, 1/4 or 1/8 of their size, not below the resized one.
    """

    def __init__(
        self,
        *,
        shortest_edge: int | None = None,
        exact: tuple[int, int] | None = None,
        crop: tuple[int, int] | None = None,
        filter: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"] = "bicubic",
        half_to_even: bool = False,
        fast_decode: bool = False,
    ) -> None: ...
    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Size of an image of (height, width) after resizing, before the crop."""

def isa() -> str:
    """Instruction set of the resampling: ``scalar``, ``avx2`` or ``avx512``; COLDPRESS_ISA forces one at load."""

def isa_levels() -> list[str]:
    """Levels that this machine and this build can run, slowest first."""

def set_isa(level: str) -> None:
    """Switch the whole process to a level; for tests and measurements. Raises ValueError where it cannot run."""

def jpeg_library() -> str:
    """Name and version of the JPEG library it was built with, empty for none."""

def load_jpegs(
    files: Sequence[bytes], transforms: Sequence[Transform], *, threads: int, max_pixels: int
) -> tuple[list[npt.NDArray[np.uint8] | list[npt.NDArray[np.uint8] | None]], list[str], tuple[float, float]]:
    """Decode a batch once, and resize and crop it in each of the ways; several exclude `fast_decode`.

    Returns for each way the pixels of every file, then why a file was declined ("" for none), and the seconds that all
    threads together spent on decoding and on resizing.

    The pixels are one array (B, height, width, 3) where the output has a fixed size (those of a declined file
    are arbitrary), else a list of (height, width, 3) with None for a declined file.
    """

def resize(image: npt.NDArray[np.uint8], transform: Transform) -> npt.NDArray[np.uint8]:
    """Resize and crop one C-contiguous RGB image (height, width, 3)."""

AxisPlan = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], int]

def resize_plan(height: int, width: int, transform: Transform) -> tuple[AxisPlan, AxisPlan, bool]:
    """What another device needs to resize an image of (height, width) to the same bytes.

    For the vertical and the horizontal axis the first source position (n,) of every kept output position, its weights
    (n, taps) in units of 2**-22, and where the first output position lands; then whether the vertical pass is first.
    """
