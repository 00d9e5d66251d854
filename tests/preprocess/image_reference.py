"""What Pillow and Hugging Face make of an image: the oracle of the image tests."""

import io
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, ImageOps
from transformers.image_transforms import center_crop, get_resize_output_image_size

from coldpress.types import ImageSpec

FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
PILLOW_MAJOR = int(PIL.__version__.split(".")[0])

Pixels = npt.NDArray[np.uint8]


def spec_of(
    resize: tuple | None = None, crop: tuple[int, int] | None = None, resample: str = "bicubic", exif: bool = False
) -> ImageSpec:
    return ImageSpec(resize, crop, resample, 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), exif)


def expected_pixels(content: bytes | Image.Image, spec: ImageSpec) -> Pixels:
    image = Image.open(io.BytesIO(content)) if isinstance(content, bytes) else content
    if spec.exif:
        image = ImageOps.exif_transpose(image)
    image = image.convert("RGB")
    if spec.resize is not None:
        kind, *size = spec.resize
        if kind == "shortest_edge":
            size = get_resize_output_image_size(
                np.asarray(image), size[0], default_to_square=False, input_data_format="channels_last"
            )
        image = image.resize((size[1], size[0]), Image.Resampling[spec.resample.upper()])
    pixels = np.asarray(image)
    return pixels if spec.crop is None else center_crop(pixels, spec.crop, input_data_format="channels_last")


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth colours with noise and hard edges: what codecs and filters find easy and hard."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    pixels = np.asarray(coarse).astype(int) + rng.integers(-20, 21, (height, width, 3))
    pixels[:: max(height // 3, 1)] = rng.choice([0, 255])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def jpegs() -> Iterator[bytes]:
    """Every kind of JPEG that Pillow can write, at sizes around the 8 and 16 pixel blocks."""
    for seed, (height, width) in enumerate([(1, 1), (1, 17), (7, 8), (16, 16), (33, 31), (65, 127), (120, 90)]):
        image = picture(height, width, seed)
        for progressive in (False, True):
            for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
                yield encode(image, quality=85, subsampling=subsampling, progressive=progressive)
            yield encode(image.convert("L"), quality=60, progressive=progressive)
        yield encode(image, quality=95, keep_rgb=True)
        yield encode(image, quality=30, restart_marker_blocks=2)
        yield as_440(encode(image, quality=85, subsampling="4:2:2"))


def as_440(jpeg: bytes) -> bytes:
    """The 4:2:2 file with its luma sampling factors exchanged: 4:4:0 of the transposed block order, still valid."""
    frame = jpeg.index(b"\xff\xc0") if b"\xff\xc0" in jpeg else jpeg.index(b"\xff\xc2")
    factors = frame + 11
    assert jpeg[factors] == 0x21
    height, width = jpeg[frame + 5 : frame + 7], jpeg[frame + 7 : frame + 9]
    return jpeg[: frame + 5] + width + height + jpeg[frame + 9 : factors] + b"\x12" + jpeg[factors + 1 :]


def encode_as(image: Image.Image, subsampling: str, **options: object) -> bytes:
    """A JPEG with one of the four subsamplings; 4:4:0 has the image's height and width exchanged."""
    if subsampling == "4:4:0":
        return as_440(encode(image, quality=85, subsampling="4:2:2", **options))
    return encode(image, quality=85, subsampling=subsampling, **options)
