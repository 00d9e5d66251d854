"""Files that a GPU's decoder takes, with Pillow in its place: the rest of the way gives the bytes of the CPU path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from coldpress.errors import ColdpressError
from coldpress.models import with_options
from coldpress.preprocess.gpu import GpuImages
from coldpress.preprocess.image import ImagePreprocessor
from coldpress.types import ImageInput, ImageSpec

pytest.importorskip("coldpress._image", reason="the compiled image part is missing")

SPEC = ImageSpec(("shortest_edge", 28), (24, 24), "bicubic", 1 / 255, (0.5,) * 3, (0.5,) * 3)


def jpeg(number: int, mode: str = "RGB") -> bytes:
    draw = np.random.default_rng(number)
    pixels = draw.integers(0, 256, (20 + number % 40, 50 - number % 20, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "JPEG", quality=90)
    return out.getvalue()


def decode(files: Sequence[bytes]) -> list[torch.Tensor | None]:
    return [torch.from_numpy(np.array(Image.open(BytesIO(file)))) for file in files]


def gpu(max_pixels: int = 10_000, spec: ImageSpec = SPEC) -> GpuImages:
    return GpuImages(spec, decode, torch.device("cpu"), max_pixels)


def test_whole_colour_files_have_the_bytes_of_the_cpu_path() -> None:
    files = {i: jpeg(i) for i in range(0, 60, 3)}
    found = gpu()(files)
    assert found.keys() == files.keys()
    for expected, pixels in zip(ImagePreprocessor(SPEC)(list(files.values())), found.values(), strict=True):
        assert isinstance(expected, ImageInput)
        assert np.array_equal(pixels, expected.pixels)


def test_what_the_usual_way_has_to_judge_is_left_to_it() -> None:
    png = BytesIO()
    Image.new("RGB", (30, 30)).save(png, "PNG")
    files = {
        0: jpeg(0, "L"),
        1: jpeg(1, "CMYK"),
        2: jpeg(2)[:-100],
        3: png.getvalue(),
        4: b"\xff\xd8 no file \xff\xd9",
        5: jpeg(5),
    }
    assert list(gpu()(files)) == [5]
    assert gpu(max_pixels=500)({5: jpeg(5)}) == {}


def test_contents_choose_the_files_of_a_share() -> None:
    files = {i: jpeg(i) for i in range(300)}
    chosen = set(gpu(spec=replace(SPEC, fast_decode="gpu:60"))(files))
    assert 140 < len(chosen) < 220
    assert chosen < set(gpu(spec=replace(SPEC, fast_decode="gpu:90"))(files))
    for i in range(20):
        assert (i in chosen) == bool(gpu(spec=replace(SPEC, fast_decode="gpu:60"))({0: files[i]}))


def test_what_its_decoder_declines_is_left_too() -> None:
    made = GpuImages(SPEC, lambda files: [None, *decode(files[1:])], torch.device("cpu"), 10_000)
    assert list(made({7: jpeg(7), 8: jpeg(8)})) == [8]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(ColdpressError, match="fast_decode gpu needs a GPU"):
        ImagePreprocessor(replace(SPEC, fast_decode="gpu"))


@pytest.mark.parametrize("wrong", ["gpu:0", "gpu:100", "gpu:x", "cpu"])
def test_a_share_is_a_percentage(wrong: str) -> None:
    model: Any = None
    with pytest.raises(ColdpressError, match="expected True, False, 'gpu', or 'gpu:1' to 'gpu:99'"):
        with_options(model, prompt=None, exif=False, fast_decode=wrong)


def test_it_needs_images_of_one_size() -> None:
    with pytest.raises(ColdpressError, match="needs images of one size"):
        GpuImages(ImageSpec(None, None, "bicubic", 1 / 255, (0.5,) * 3, (0.5,) * 3), decode, torch.device("cpu"), 100)


@pytest.mark.cuda
def test_a_gpu_decodes_close_to_the_exact_pixels() -> None:
    files = []
    for i in range(20):
        ramp = np.add.outer(np.arange(240) + i, np.arange(320))[..., None] * np.array([1, 2, 1]) // 4 % 256
        out = BytesIO()
        Image.fromarray(ramp.astype(np.uint8)).resize((300, 200)).save(out, "JPEG", quality=90)
        files.append(out.getvalue())
    spec = replace(SPEC, resize=("shortest_edge", 64), crop=(56, 56))
    ours, exact = ImagePreprocessor(replace(spec, fast_decode="gpu"))(files), ImagePreprocessor(spec)(files)
    for a, b in zip(ours, exact, strict=True):
        assert isinstance(a, ImageInput)
        assert isinstance(b, ImageInput)
        assert np.abs(a.pixels.astype(int) - b.pixels).mean() < 2
