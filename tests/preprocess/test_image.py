"""The image path gives Pillow's bytes, with the compiled part and without, and a reason for every bad input."""

import hashlib
import io
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_reference import FILTERS, PILLOW_MAJOR, encode, expected_pixels, jpegs, picture, spec_of
from PIL import Image, PngImagePlugin

from coldpress.preprocess import image as image_module
from coldpress.preprocess.image import ImagePreprocessor
from coldpress.preprocess.resize import resized_size
from coldpress.types import Failed, FileRef, ImageInput, KnownInput

_image = image_module._image
needs_compiled = pytest.mark.skipif(_image is None, reason="the compiled part is not built")
needs_pillow_13 = pytest.mark.skipif(PILLOW_MAJOR < 13, reason="older versions order the passes differently")
VIT = spec_of(("shortest_edge", 40), (32, 32))


@pytest.fixture(params=["compiled", "pillow"])
def backend(request, monkeypatch):
    """Runs a test with the compiled part and as if it were not installed."""
    if request.param == "compiled" and _image is None:
        pytest.skip("the compiled part is not built")
    if request.param == "pillow":
        monkeypatch.setattr(image_module, "_image", None)
    return request.param


def pixels_of(result) -> np.ndarray:
    assert isinstance(result, ImageInput), result
    assert result.pixels.dtype == np.uint8
    return result.pixels


def only(spec, content, **options):
    (result,) = ImagePreprocessor(spec, **options)([content])
    return result


# --- the same bytes as Pillow --------------------------------------------------------------------------------------


@needs_compiled
def test_every_kind_of_jpeg_is_decoded_natively_to_pillows_bytes():
    if not _image.jpeg_library():
        pytest.skip("built without libjpeg-turbo")
    files = list(jpegs())
    (pixels,), declined, _ = _image.load_jpegs(files, [_image.Transform()], threads=2, max_pixels=10**6)
    assert set(declined) == {""}
    for file, got in zip(files, pixels, strict=True):
        np.testing.assert_array_equal(got, expected_pixels(file, spec_of()))


@needs_pillow_13
@pytest.mark.parametrize("resample", FILTERS)
def test_jpeg_chain_equals_pillow(backend, resample):
    spec = spec_of(("shortest_edge", 48), (40, 44), resample)
    files = list(jpegs())
    for file, result in zip(files, ImagePreprocessor(spec, threads=2)(files), strict=True):
        np.testing.assert_array_equal(pixels_of(result), expected_pixels(file, spec))


@needs_pillow_13
@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (23, 1), (9, 64), (64, 9), (37, 53), (200, 60), (90, 300)])
def test_resize_up_and_down_equals_pillow(backend, size, resample):
    source = picture(*size)
    for target in [(1, 1), (8, 8), size, (size[0], 31), (31, size[1]), (50, 20), (20, 50), (111, 97)]:
        for crop in (None, (16, 16), (1, 60), (61, 33)):
            spec = spec_of(("exact", *target), crop, resample)
            np.testing.assert_array_equal(pixels_of(only(spec, source)), expected_pixels(source, spec))


@needs_pillow_13
@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    edge=st.integers(1, 60),
    crop=st.none() | st.tuples(st.integers(1, 70), st.integers(1, 70)),
    resample=st.sampled_from(FILTERS),
    seed=st.integers(0, 1000),
)
def test_any_shortest_edge_and_crop_equals_hugging_face(size, edge, crop, resample, seed):
    source = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
    spec = spec_of(("shortest_edge", edge), crop, resample)
    np.testing.assert_array_equal(pixels_of(only(spec, source)), expected_pixels(source, spec))


@needs_compiled
@given(height=st.integers(1, 60_000), width=st.integers(1, 60_000), edge=st.integers(1, 2_000))
def test_compiled_and_python_sizes_agree(height, width, edge):
    compiled = _image.Transform(shortest_edge=edge).resized(height, width)
    assert compiled == resized_size(spec_of(("shortest_edge", edge)), height, width)


def test_tall_images_take_the_vertical_pass_first_with_every_pillow(backend):
    source = picture(500, 150)
    vertical_first = source.resize((150, 213), Image.BICUBIC).resize((64, 213), Image.BICUBIC)
    horizontal_first = source.resize((64, 500), Image.BICUBIC).resize((64, 213), Image.BICUBIC)
    got = pixels_of(only(spec_of(("shortest_edge", 64)), source))
    np.testing.assert_array_equal(got, np.asarray(vertical_first))
    assert not np.array_equal(got, np.asarray(horizontal_first))


@needs_pillow_13
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_real_photos_equal_pillow(shared, resample):
    files = sorted((shared / "imagenet_sample" / "images").iterdir())
    spec = spec_of(("shortest_edge", 256), (224, 224), resample)
    results = ImagePreprocessor(spec, threads=2)([FileRef(str(file)) for file in files])
    for file, result in zip(files, results, strict=True):
        np.testing.assert_array_equal(pixels_of(result), expected_pixels(file.read_bytes(), spec), err_msg=file.name)


@pytest.mark.parametrize("exif", [False, True])
def test_real_edge_cases_equal_pillow(shared, backend, exif):
    spec = spec_of(("shortest_edge", 40), (32, 32), exif=exif)
    for file in sorted((shared / "image_edge_cases" / "images").iterdir()):
        result = only(spec, str(file))
        try:
            want = expected_pixels(file.read_bytes(), spec)
        except OSError:
            assert isinstance(result, Failed), file.name
        else:
            np.testing.assert_array_equal(pixels_of(result), want, err_msg=file.name)


# --- every kind of content -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "format"),
    [("CMYK", "JPEG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("RGBA", "WEBP"),
     ("I;16", "PNG"), ("I;16", "TIFF"), ("1", "PNG"), ("CMYK", "TIFF"), ("RGB", "BMP")],
)  # fmt: skip
def test_other_modes_and_formats_are_converted_as_pillow_does(backend, mode, format):
    source = picture(45, 61)
    if mode == "I;16":
        source = Image.fromarray(np.asarray(source.convert("L")).astype(np.uint16) * 257)
    else:
        source = source.convert(mode)
    file = encode(source, format)
    np.testing.assert_array_equal(pixels_of(only(VIT, file)), expected_pixels(file, VIT))


def test_animation_gives_its_first_frame(backend):
    first, second = picture(30, 30, 1), picture(30, 30, 2)
    file = encode(first, "GIF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(pixels_of(only(VIT, file)), expected_pixels(file, VIT))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_only_if_asked(backend, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encode(picture(20, 50), exif=exif)
    for applied in (False, True):
        spec = spec_of(exif=applied)
        np.testing.assert_array_equal(pixels_of(only(spec, file)), expected_pixels(file, spec))


def test_arrays_and_pil_images_equal_the_file(backend, tmp_path):
    source = picture(50, 70)
    path = tmp_path / "a.png"
    source.save(path)
    contents = [path.read_bytes(), FileRef(str(path)), str(path), source, np.asarray(source)]
    results = ImagePreprocessor(VIT)(contents)
    for result in results:
        np.testing.assert_array_equal(pixels_of(result), expected_pixels(source, VIT))
    assert len({result.content_hash for result in results[:3]}) == 1  # the encoded bytes
    assert results[3].content_hash == results[4].content_hash != results[0].content_hash  # the pixels


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_gray_and_alpha_arrays_are_converted_as_pillow_does(backend, mode):
    source = picture(40, 50).convert(mode)
    np.testing.assert_array_equal(pixels_of(only(VIT, np.asarray(source))), expected_pixels(source, VIT))


def test_strided_and_reversed_arrays(backend):
    array = np.asarray(picture(60, 80))[::-2, 5:60:3]
    want = expected_pixels(Image.fromarray(np.ascontiguousarray(array)), VIT)
    np.testing.assert_array_equal(pixels_of(only(VIT, array)), want)


def test_content_hash_tells_shapes_and_pixels_apart():
    a, b = np.zeros((6, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)
    c = a.copy()
    c[0, 0, 0] = 1
    hashes = [result.content_hash for result in ImagePreprocessor(VIT)([a, b, c])]
    assert len(set(hashes)) == 3
    assert all(len(h) == 32 and int(h, 16) >= 0 for h in hashes)


# --- what is known already -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_known_contents_are_not_decoded(backend, threads, tmp_path):
    jpeg, png, array = encode(picture(40, 50)), encode(picture(41, 50), "PNG"), np.asarray(picture(42, 50))
    (tmp_path / "a.jpg").write_bytes(jpeg)
    undecodable = b"\xff\xd8 no JPEG"
    contents = [jpeg, undecodable, png, array, picture(43, 50), b"", str(tmp_path / "a.jpg")]
    preprocess = ImagePreprocessor(VIT, threads=threads)
    plain = preprocess(contents)
    hashes = {hashlib.sha256(file).hexdigest()[:32] for file in (undecodable, png)} | {plain[3].content_hash}
    results = preprocess(contents, lambda asked: [one in hashes for one in asked])
    for i, (result, before) in enumerate(zip(results, plain, strict=True)):
        if i in (1, 2, 3):
            assert isinstance(result, KnownInput)
            assert result.content_hash in hashes
        else:
            assert type(result) is type(before)
    assert results[0].content_hash == plain[0].content_hash == results[6].content_hash
    everything = preprocess([jpeg, png, array], lambda asked: [True] * len(asked))
    assert everything == [KnownInput(plain[i].content_hash) for i in (0, 2, 3)]


# --- fast decoding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("scale", [1, 1.9, 2, 3.9, 4, 7, 8, 20])
def test_fast_decode_equals_pillows_draft_mode(backend, scale, subsampling, progressive):
    file = encode(picture(round(20 * scale) + 1, round(20 * scale)), subsampling=subsampling, progressive=progressive)
    for resize, target in ((("shortest_edge", 20), (20, 20)), (("exact", 20, 15), (15, 20)), (None, (10**4, 10**4))):
        spec = replace(spec_of(resize), fast_decode=True)
        with Image.open(io.BytesIO(file)) as image:
            full = image.size
            image.draft(None, target)
            assert image.size == full or (image.width >= target[0] and image.height >= target[1])
            height, width = resized_size(spec, full[1], full[0])
            want = image.convert("RGB")
            want = want if resize is None else want.resize((width, height), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(pixels_of(only(spec, file)), np.asarray(want))


def test_fast_decode_is_close_on_photos_and_off_by_default(shared):
    files = [f.read_bytes() for f in sorted((shared / "imagenet_sample" / "images").iterdir())[:60]]
    spec = spec_of(("shortest_edge", 80), (64, 64))
    assert not spec.fast_decode
    exact, fast = (ImagePreprocessor(s, threads=2)(files) for s in (spec, replace(spec, fast_decode=True)))
    alike = [np.corrcoef(pixels_of(a).ravel(), pixels_of(b).ravel())[0, 1] for a, b in zip(exact, fast, strict=True)]
    assert 0.99 < np.mean(alike) < 1
    assert min(alike) > 0.9


# --- bad input -----------------------------------------------------------------------------------------------------


def png_claiming(width: int, height: int) -> bytes:
    header = PngImagePlugin.o32(width) + PngImagePlugin.o32(height) + b"\x08\x02\x00\x00\x00"
    chunks: list[bytes] = []

    class Sink:
        write = staticmethod(chunks.append)

    PngImagePlugin.putchunk(Sink, b"IHDR", header)
    PngImagePlugin.putchunk(Sink, b"IDAT", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_claiming(width: int, height: int) -> bytes:
    file = bytearray(encode(picture(16, 16)))
    frame = file.index(b"\xff\xc0")
    file[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"hello, I am a .jpg", "not an image (first bytes 68 65 6c 6c 6f 2c 20 49)"),
        (b"\xff\xd8", "not an image (first bytes ff d8)"),
        (encode(picture(90, 90))[:-300], "truncated image"),
        (encode(picture(90, 90), progressive=True)[:-300], "truncated image"),
        (encode(picture(90, 90), "PNG")[:-5000], "truncated image"),
        (jpeg_claiming(12_000, 12_000), "too large: 12000x12000 = 144.0 MP, limit 89.5 MP"),
        (png_claiming(12_000, 12_000), "too large: 12000x12000 = 144.0 MP, limit 89.5 MP"),
        (jpeg_claiming(65_000, 65_000), "too large: "),
        (png_claiming(100_000, 100_000), "too large: "),
        (np.zeros((1, 100_000, 3), np.uint8), "too large after resizing: 4000000x40 = 160.0 MP, limit 89.5 MP"),
        ("no/such/file.jpg", "file not found"),
        (str(Path(__file__).parent), "a directory, not a file"),
        (FileRef("nosuchprotocol://x"), "cannot read: "),
        (np.zeros((4, 4, 3), np.float32), "array of float32, expected uint8"),
        (np.zeros((4, 4, 7), np.uint8), "array of shape (4, 4, 7), expected (height, width, 3)"),
        (np.zeros((0, 4, 3), np.uint8), "empty image"),
        (42, "int is not an image"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else type(value).__name__,
)
def test_bad_input_fails_with_a_reason(backend, recwarn, content, reason):
    good = encode(picture(20, 20))
    before, failed, after = ImagePreprocessor(VIT)([good, content, good])
    assert isinstance(failed, Failed)
    assert failed.reason.startswith(reason)
    assert "\n" not in failed.reason
    np.testing.assert_array_equal(pixels_of(before), pixels_of(after))


@pytest.mark.parametrize("spec", [VIT, spec_of()], ids=["fixed size", "any size"])
def test_damaged_jpegs_are_accepted_and_rejected_as_by_pillow(spec):
    rng = np.random.default_rng(0)
    files = []
    for file in list(jpegs())[20:60]:
        for _ in range(5):
            damaged = bytearray(file)
            for position in rng.integers(2, len(file), 2):
                damaged[position] = rng.integers(256)
            files += [bytes(damaged), file[: rng.integers(2, len(file))], file + b"trailing"]
    for file, result in zip(files, ImagePreprocessor(spec, threads=2, max_pixels=10**6)(files), strict=True):
        try:
            with Image.open(io.BytesIO(file)) as opened:
                too_large = opened.height * opened.width > 10**6
            want = None if too_large else expected_pixels(file, spec)
        except Exception:
            want = None
        assert isinstance(result, Failed) == (want is None)
        if want is not None:
            np.testing.assert_array_equal(result.pixels, want)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}], ids=str)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_damage_outside_the_crop_is_still_a_failure(backend, kept, options):
    file = encode(picture(200, 200), **options)
    spec = spec_of(("exact", 200, 200), (4, 4))
    start = file.index(b"\xff\xda")
    truncated = file[: start + round((len(file) - start) * kept)]
    assert only(spec, truncated) == Failed("truncated image")
    assert isinstance(only(spec, file), ImageInput)


def test_limit_is_configurable():
    assert isinstance(only(VIT, picture(100, 101), max_pixels=10_000), Failed)
    assert isinstance(only(VIT, encode(picture(100, 101)), max_pixels=10_000), Failed)
    assert isinstance(only(VIT, encode(picture(100, 100)), max_pixels=10_000), ImageInput)


def test_wrong_spec_is_refused():
    with pytest.raises(ValueError, match="expected \\('shortest_edge', s\\)"):
        ImagePreprocessor(spec_of(("longest_edge", 3)))


# --- batches and threads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [VIT, spec_of(("shortest_edge", 40))], ids=["fixed size", "any size"])
def test_order_and_bytes_do_not_depend_on_threads_or_batch(spec):
    contents = [c for i in range(12) for c in (encode(picture(30 + i, 50, i)), encode(picture(50, 30, i), "PNG"), b"")]
    alone = [only(spec, content) for content in contents]
    for threads in (1, 2, 5):
        together = ImagePreprocessor(spec, threads=threads)(contents)
        for one, other in zip(alone, together, strict=True):
            assert type(one) is type(other)
            if isinstance(one, ImageInput):
                assert one.content_hash == other.content_hash
                np.testing.assert_array_equal(one.pixels, other.pixels)


def test_one_preprocessor_serves_several_threads():
    preprocess = ImagePreprocessor(VIT, threads=2)
    contents = [encode(picture(40, 40 + i, i)) for i in range(8)]
    want = [pixels_of(result) for result in preprocess(contents)]
    before = dict(preprocess.seconds)
    results: list[list] = []
    workers = [threading.Thread(target=lambda: results.append(preprocess(contents))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    assert all(np.array_equal(pixels_of(r), w) for result in results for r, w in zip(result, want, strict=True))
    assert all(preprocess.seconds[step] > before[step] > 0 for step in ("read", "decode", "resize"))


def test_nothing_in_nothing_out():
    assert ImagePreprocessor(VIT)([]) == []
