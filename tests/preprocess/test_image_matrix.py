"""Byte for byte: every kind of JPEG x filter x size against Pillow, every instruction set against the portable one."""

from itertools import product

import numpy as np
import pytest
from image_reference import FILTERS, PILLOW_MAJOR, encode, encode_as, expected_pixels, picture, spec_of
from PIL import Image

from coldpress.preprocess.image import ImagePreprocessor, _image, native_transform
from coldpress.types import Failed

pytestmark = [
    pytest.mark.skipif(_image is None, reason="the compiled part is not built"),
    pytest.mark.skipif(PILLOW_MAJOR < 13, reason="older versions order the passes differently"),
]
needs_jpeg = pytest.mark.skipif(not (_image and _image.jpeg_library()), reason="built without libjpeg-turbo")

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:4:0")
MODES = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"optimize": True, "restart_marker_blocks": 3},
}
SIZES = [
    (1, 1), (1, 19), (23, 1), (3, 5), (7, 8), (8, 7), (9, 17), (15, 16), (17, 15), (16, 33),
    (31, 32), (33, 31), (47, 65), (65, 47), (64, 129), (97, 51), (101, 103), (127, 63), (129, 131), (150, 75),
]  # fmt: skip
TAILS = (1, 2, 3, 5, 6, 7, 8, 9, 15, 16, 17, 21, 22, 31, 32, 33, 63, 64, 65)


@pytest.fixture(params=_image.isa_levels() if _image else [])
def level(request):
    before = _image.isa()
    _image.set_isa(request.param)
    yield request.param
    _image.set_isa(before)


def load(files, spec):
    """Pixels of the native path alone: a file that it declines fails the test."""
    (pixels,), declined, _ = _image.load_jpegs(files, [native_transform(spec)], threads=2, max_pixels=10**8)
    assert set(declined) <= {""}
    return pixels


@needs_jpeg
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_jpeg_matrix_equals_pillow(subsampling, mode):
    files = [encode_as(picture(*size, seed), subsampling, **MODES[mode]) for seed, size in enumerate(SIZES)]
    for resample, (resize, crop) in product(FILTERS, [(("shortest_edge", 30), (23, 37)), (("exact", 70, 90), None)]):
        spec = spec_of(resize, crop, resample)
        for file, size, got in zip(files, SIZES, load(files, spec), strict=True):
            np.testing.assert_array_equal(got, expected_pixels(file, spec), err_msg=f"{size} {resample} {resize}")


@needs_jpeg
@pytest.mark.parametrize("mode", [*MODES, "grayscale", "RGB"])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_decoding_only_the_crop_equals_decoding_everything(subsampling, mode):
    image, options = picture(83, 90), MODES.get(mode, {})
    if mode in ("grayscale", "RGB"):
        file = encode(image.convert("L")) if mode == "grayscale" else encode(image, keep_rgb=True)
    else:
        file = encode_as(image, subsampling, **options)
    for crop in [(i, i) for i in range(1, 84)] + [(1, i) for i in range(1, 91)] + [(i, 2) for i in range(1, 84)]:
        spec = spec_of(None, crop)
        np.testing.assert_array_equal(load([file], spec)[0], expected_pixels(file, spec), err_msg=str(crop))


@pytest.mark.parametrize("resample", FILTERS)
def test_every_level_gives_the_bytes_of_the_portable_kernels_and_of_pillow(level, resample):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.choice([0, 255], (67, 66, 3)).astype(np.uint8))  # overshoots as far as it can
    for width, height in zip(TAILS, TAILS[::-1], strict=True):
        source = noise.crop((0, 0, width, height))
        for target in [(height, 13), (19, width), (height, 2 * width + 1), (50, 7), (7, 50), (33, 33)]:
            spec = spec_of(("exact", *target), None, resample)
            transform = native_transform(spec)
            got = _image.resize(np.array(source), transform)
            np.testing.assert_array_equal(got, expected_pixels(source, spec), err_msg=f"{source.size} to {target}")
            _image.set_isa("scalar")
            np.testing.assert_array_equal(got, _image.resize(np.array(source), transform))
            _image.set_isa(level)


@pytest.mark.parametrize("width", TAILS)
def test_every_level_narrows_and_shortens_to_every_tail(level, width):
    source = picture(70, 140)
    for target in [(width, 140), (70, width), (width, width), (40, width), (width, 40)]:
        for crop in (None, (width, 11), (11, width)):
            spec = spec_of(("exact", *target), crop)
            got = _image.resize(np.array(source), native_transform(spec))
            np.testing.assert_array_equal(got, expected_pixels(source, spec), err_msg=f"{target} {crop}")


@needs_jpeg
def test_every_level_decodes_real_photos_natively_to_pillows_bytes(level, shared):
    files = [file.read_bytes() for file in sorted((shared / "imagenet_sample" / "images").iterdir())[::8]]
    spec = spec_of(("shortest_edge", 64), (56, 56), "lanczos")
    for file, got in zip(files, load(files, spec), strict=True):
        np.testing.assert_array_equal(got, expected_pixels(file, spec))


# --- Huffman codes -------------------------------------------------------------------------------------------------


@needs_jpeg
@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("quality", [1, 20, 75, 95, 100])
def test_codes_and_values_of_every_length_are_read(quality, optimize):
    rng = np.random.default_rng(quality)
    extremes = rng.choice([0, 255], (64, 80, 3)).astype(np.uint8)  # long values
    rare = np.where(rng.random((64, 80, 3)) < 0.002, 255, 128).astype(np.uint8)  # long runs of zeros
    smooth = np.asarray(picture(64, 80))
    for pixels in (extremes, rare, smooth, np.concatenate([extremes, rare, smooth])):
        file = encode(Image.fromarray(pixels), quality=quality, optimize=optimize, subsampling="4:4:4")
        np.testing.assert_array_equal(load([file], spec_of())[0], expected_pixels(file, spec_of()))


def ends(file: bytes) -> dict[str, bytes]:
    """What may stand at the end of a scan; the last two bytes of the file are EOI."""
    body, eoi = file[:-2], file[-2:]
    return {
        "as written": file,
        "no EOI": body,
        "half of EOI": file[:-1],
        "filled up": body + b"\xff\xff\xff" + eoi,
        "garbage": body + b"abc" + eoi,
        "stuffing": body + b"\xff\x00" + eoi,
        "a restart": body + b"\xff\xd0" + eoi,
        "more data": file + b"abc",
        "a byte less": body[:-1] + eoi,
        "ten bytes less": body[:-10] + eoi,
        "a restart within": body[:-20] + b"\xff\xd0" + body[-18:] + eoi,
        "stuffing without data": body[:-20] + b"\xff\xff\x00" + body[-17:] + eoi,
        "another scan's end": body + eoi + eoi,
    }


@needs_jpeg
@pytest.mark.parametrize("kind", ends(b"--"))
def test_the_end_of_a_scan_is_accepted_and_rejected_as_by_pillow(kind):
    spec = spec_of(("shortest_edge", 20), (9, 9))
    for seed, options in enumerate([{}, {"optimize": True}, {"subsampling": "4:2:0"}, {"progressive": True}]):
        file = ends(encode(picture(50, 60, seed), **options))[kind]
        (result,) = ImagePreprocessor(spec)([file])
        try:
            want = expected_pixels(file, spec)
        except OSError:
            assert isinstance(result, Failed)
        else:
            np.testing.assert_array_equal(result.pixels, want)


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="'sse9' cannot run here, can: scalar"):
        _image.set_isa("sse9")
