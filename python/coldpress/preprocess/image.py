"""Images to pixels, byte for byte as the model's own (PIL) processor makes them: decode, resize, centre crop.

Sound JPEG files take the compiled path; about everything else (other formats, CMYK, damaged files) Pillow
decides, so that what is accepted, rejected and how it is converted is Pillow's alone. Without the compiled part
all files go that way: slower, same bytes.

The content hash of a file is taken before it is decoded (50 us for 110 KB, a twentieth of the decoding), so that what
is known already costs no more than reading.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from io import BytesIO
from itertools import chain, repeat
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from coldpress.preprocess.gpu import open_gpu
from coldpress.preprocess.reading import DecodedFile, File, Pixels, Source, first_line, hash_image, read_images
from coldpress.preprocess.resize import centre_crop, resize_with_pillow, resized_size
from coldpress.types import Content, Failed, ImageInput, ImageSpec, KnownHashes, KnownInput

try:
    from coldpress import _image
except ImportError:
    _image = None  # type: ignore[assignment]

native = _image
Loaded = ImageInput | KnownInput | Failed

PILLOW_PIXEL_LIMIT = 89_478_485
"""The size above which Pillow itself suspects a decompression bomb."""

# Too large an image is an outcome with a reason; Pillow's warning about it would only repeat that on stderr.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class _RejectedError(Exception):
    """Carries the reason of a `Failed` from where it is found to where it is returned."""


class ImagePreprocessor:
    """Turns contents into resized, cropped RGB pixels as `spec` says.

    Calling it with a sequence of contents gives an `ImageInput` or a `Failed` for each, in the same order; it never
    raises because of an item. Content is an encoded image (bytes), a file (`FileRef`, or its path as str), a PIL
    image, or a uint8 array (height, width, 3); gray and RGBA arrays are converted as Pillow does. Thread-safe.
    `seconds` sums the busy time of all threads: read (with hashing), decode, resize.

    Parameters
    ----------
    spec : ImageSpec
        Resize, crop, filter and EXIF handling. Rescaling and normalisation are the backbone's.
    threads : int
        Threads that decode within one call.
    max_pixels : int
        Images with more pixels, before or after resizing, fail before their memory is allocated.

    Examples
    --------
    >>> import numpy as np
    >>> spec = ImageSpec(("shortest_edge", 8), (8, 8), "bicubic", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    >>> preprocess = ImagePreprocessor(spec)
    >>> good, bad = preprocess([np.zeros((12, 16, 3), np.uint8), b"no image"])
    >>> good.pixels.shape, bad.reason
    ((8, 8, 3), 'not an image (first bytes 6e 6f 20 69 6d 61 67 65)')
    """

    modality: Literal["image"] = "image"

    def __init__(self, spec: ImageSpec, *, threads: int = 1, max_pixels: int = PILLOW_PIXEL_LIMIT) -> None:
        _check(spec)
        self.spec = spec
        self.threads = threads
        self.max_pixels = max_pixels
        self.seconds: dict[str, float] = {"read": 0.0, "decode": 0.0, "resize": 0.0}
        self._lock = threading.Lock()
        self.keeps_shape = spec.keeps_shape
        self.transform = None if _image is None else native_transform(spec)
        self.gpu = open_gpu(spec, max_pixels) if isinstance(spec.fast_decode, str) else None

    @cached_property
    def exact(self) -> ImagePreprocessor:
        """The same without fast decoding; itself where that is off."""
        if not self.spec.fast_decode:
            return self
        return ImagePreprocessor(
            replace(self.spec, fast_decode=False), threads=self.threads, max_pixels=self.max_pixels
        )

    @overload
    def __call__(self, contents: Sequence[Content], known: None = None) -> list[ImageInput | Failed]: ...

    @overload
    def __call__(
        self, contents: Sequence[Content], known: KnownHashes | None
    ) -> list[ImageInput | KnownInput | Failed]: ...

    def __call__(
        self, contents: Sequence[Content], known: KnownHashes | None = None
    ) -> list[ImageInput | KnownInput | Failed] | list[ImageInput | Failed]:
        """Pixels, or the reason why there are none, for each content in order.

        With `known`, an image whose content hash is known comes back as `KnownInput`: not decoded, if it was encoded.
        """
        with self.spending("read"):
            sources = read_images(contents)
            done: dict[int, Loaded] = known_files(sources, known)
        if self.gpu is not None:
            done |= self._by_gpu({i: s for i, s in enumerate(sources) if isinstance(s, File) and i not in done})
        (natively,) = load_jpegs([self], {i: source for i, source in enumerate(sources) if i not in done})
        done |= natively
        rest = [i for i in range(len(sources)) if i not in done]
        done.update(zip(rest, self._load_others([sources[i] for i in rest], known), strict=True))
        return [done[i] for i in range(len(sources))]

    def _by_gpu(self, files: Mapping[int, File]) -> dict[int, Loaded]:
        assert self.gpu is not None
        with self.spending("decode"):
            upright = {i: file for i, file in files.items() if not (self.spec.exif and _may_be_turned(file.data))}
            found = self.gpu({i: file.data for i, file in upright.items()})
        return {i: ImageInput(pixels, files[i].content_hash) for i, pixels in found.items()}

    @contextmanager
    def spending(self, step: str) -> Iterator[None]:
        """Add the time within to a step."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.spend({step: time.perf_counter() - begin})

    def spend(self, seconds: Mapping[str, float]) -> None:
        """Add to the busy time of steps."""
        with self._lock:
            for step, spent in seconds.items():
                self.seconds[step] += spent

    def transform_of(self, file: bytes) -> _image.Transform | None:
        """How the compiled part resizes a JPEG file; None where that is for Pillow to find out."""
        if not self.keeps_shape:
            return self.transform
        sides = _sides(file)
        return None if sides is None else self._transform_to(resized_size(self.spec, *sides))

    def _transform_to(self, size: tuple[int, int]) -> _image.Transform:
        return native_transform(replace(self.spec, resize=("exact", *size)))

    def _load_others(self, sources: Sequence[Source | Failed], known: KnownHashes | None) -> list[Loaded]:
        if self.threads == 1 or len(sources) < 2:
            return [self.load(source, known) for source in sources]
        with ThreadPoolExecutor(min(self.threads, len(sources))) as pool:
            return list(pool.map(self.load, sources, repeat(known)))

    def load(self, source: Source | Failed, known: KnownHashes | None) -> Loaded:
        """What becomes of one image without the compiled decoder."""
        if isinstance(source, Failed):
            return source
        try:
            with self.spending("decode"):
                pixels, size = self.decode(source)
            if isinstance(source, File | DecodedFile):
                content_hash = source.content_hash
            else:
                with self.spending("read"):
                    content_hash = hash_image(pixels)
                    if known is not None and known([content_hash])[0]:
                        return KnownInput(content_hash)
            with self.spending("resize"):
                return ImageInput(self._resize(pixels, size), content_hash)
        except Exception as error:  # decoders of damaged files raise anything from struct.error to ValueError
            return Failed(_reason(error, source))

    def decode(self, source: Source) -> tuple[Pixels, tuple[int, int]]:
        """The whole image as RGB (height, width, 3), and the (height, width) to resize it to."""
        if isinstance(source, np.ndarray):
            self._check_size(*_array_size(source))
            pixels = source if source.shape[2:] == (3,) else np.asarray(Image.fromarray(source).convert("RGB"))
        elif isinstance(source, DecodedFile):
            self._check_size(*source.pixels.shape[:2])
            pixels = source.pixels
        elif isinstance(source, File):
            with Image.open(BytesIO(source.data)) as image:
                if self.spec.fast_decode is True and (size := self._shrink(image, source.data)):
                    return np.asarray(image.convert("RGB")), size
                pixels = self._to_rgb(image)
        else:
            pixels = self._to_rgb(source)
        return pixels, resized_size(self.spec, *pixels.shape[:2])

    def _shrink(self, image: Image.Image, file: bytes) -> tuple[int, int] | None:
        """Make a JPEG file decode at a smaller size if it can; returns what its full size is to be resized to."""
        self._check_size(image.height, image.width)
        if self.spec.exif and _may_be_turned(file):
            return None
        height, width = resized_size(self.spec, image.height, image.width)
        return None if image.draft(None, (width, height)) is None else (height, width)

    def _to_rgb(self, image: Image.Image) -> Pixels:
        self._check_size(image.height, image.width)
        if self.spec.exif:
            image = _upright(image)
        return np.asarray(image.convert("RGB"))

    def _check_size(self, height: int, width: int) -> None:
        if height == 0 or width == 0:
            raise _RejectedError("empty image")
        for size, stage in ((height, width), ""), (resized_size(self.spec, height, width), " after resizing"):
            if size[0] * size[1] > self.max_pixels:
                megapixels, limit = size[0] * size[1] / 1e6, self.max_pixels / 1e6
                raise _RejectedError(
                    f"too large{stage}: {size[1]}x{size[0]} = {megapixels:.1f} MP, limit {limit:.1f} MP"
                )

    def _resize(self, pixels: Pixels, size: tuple[int, int]) -> Pixels:
        if self.transform is not None:
            transform = self.transform
            if transform.resized(*pixels.shape[:2]) != size:  # it has its own, or was decoded at a smaller one
                transform = self._transform_to(size)
            return _image.resize(np.ascontiguousarray(pixels), transform)
        resized = resize_with_pillow(pixels, size, self.spec.resample)
        return resized if self.spec.crop is None else centre_crop(resized, self.spec.crop, self.spec.crop_rounding)


def load_jpegs(ways: Sequence[ImagePreprocessor], sources: Mapping[int, Source | Failed]) -> list[dict[int, Loaded]]:
    """What the compiled decoder makes of the JPEG files among the sources, for each way by position.

    It decodes once, as the first way has it decoded; the others must agree with that one.
    """
    first = ways[0]
    if first.transform is None:
        return [{} for _ in ways]
    jpegs = {i: s for i, s in sources.items() if isinstance(s, File) and s.data.startswith(b"\xff\xd8")}
    if first.spec.exif:
        with first.spending("decode"):
            jpegs = {i: jpeg for i, jpeg in jpegs.items() if not _may_be_turned(jpeg.data)}
    alone = any(way.keeps_shape for way in ways)  # then each image has a size of its own
    groups = [{i: jpeg} for i, jpeg in jpegs.items()] if alone else [jpegs]
    loaded = [_load_group(ways, group) for group in groups if group]
    return [dict(chain.from_iterable(part[k].items() for part in loaded)) for k in range(len(ways))]


def _load_group(ways: Sequence[ImagePreprocessor], jpegs: Mapping[int, File]) -> list[dict[int, Loaded]]:
    """Decode JPEG files that each way resizes alike."""
    first, example = ways[0], next(iter(jpegs.values()))
    transforms = [transform for way in ways if (transform := way.transform_of(example.data)) is not None]
    if len(transforms) < len(ways):
        return [{} for _ in ways]
    made, declined, (decoding, resizing) = _image.load_jpegs(
        [jpeg.data for jpeg in jpegs.values()], transforms, threads=first.threads, max_pixels=first.max_pixels
    )
    first.spend({"decode": decoding, "resize": resizing})
    return [
        {
            i: ImageInput(image, jpeg.content_hash)
            for (i, jpeg), image, reason in zip(jpegs.items(), pixels, declined, strict=True)
            if image is not None and not reason
        }
        for pixels in made
    ]


def known_files(sources: Sequence[Source | Failed], known: KnownHashes | None) -> dict[int, Loaded]:
    """Those among the files whose content hash is known, by position."""
    files = {i: source.content_hash for i, source in enumerate(sources) if isinstance(source, File)}
    if known is None or not files:
        return {}
    found = zip(files.items(), known(list(files.values())), strict=True)
    return {i: KnownInput(content_hash) for (i, content_hash), is_known in found if is_known}


def _array_size(array: npt.NDArray[Any]) -> tuple[int, int]:
    if array.dtype != np.uint8:
        raise _RejectedError(f"array of {array.dtype}, expected uint8")
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
        raise _RejectedError(f"array of shape {array.shape}, expected (height, width, 3)")
    return array.shape[0], array.shape[1]


def _sides(file: bytes) -> tuple[int, int] | None:
    """(height, width) that the header of a file states; None where Pillow finds none."""
    try:
        with Image.open(BytesIO(file)) as image:
            return image.height, image.width
    except Exception:  # let Pillow's own path find out what is wrong
        return None


def _may_be_turned(file: bytes) -> bool:
    try:
        with Image.open(BytesIO(file)) as image:
            return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)
    except Exception:  # let Pillow's own path find out what is wrong
        return True


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data asks; one whose EXIF data cannot be read stays as it is."""
    image.load()  # damaged pixels are reported, damaged metadata are not
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _reason(error: Exception, source: Source) -> str:
    text = first_line(error)
    if isinstance(error, _RejectedError):
        return text
    if isinstance(error, UnidentifiedImageError) and isinstance(source, File):
        return f"not an image (first bytes {source.data[:8].hex(' ')})"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"too large: {text}"
    if isinstance(error, MemoryError):
        return "not enough memory"
    return "truncated image" if "truncated" in text.lower() else f"cannot decode: {text}"


def _check(spec: ImageSpec) -> None:
    match spec.resize:
        case None | ("shortest_edge", _) | ("exact", _, _) | ("patches", _, _):
            return
    known = "('shortest_edge', s), ('exact', height, width), ('patches', side, most)"
    raise ValueError(f"got resize {spec.resize!r}, expected {known} or None")


def native_transform(spec: ImageSpec) -> _image.Transform:
    """How the compiled part resizes as a spec says."""
    kind, *sizes = spec.resize or ("none",)
    return _image.Transform(
        shortest_edge=sizes[0] if kind == "shortest_edge" else None,
        exact=(sizes[0], sizes[1]) if kind == "exact" else None,
        crop=spec.crop,
        filter=spec.resample,
        half_to_even=spec.crop_rounding == "even",
        fast_decode=spec.fast_decode is True,
    )
