"""How fast does a JPEG become a tensor, against Pillow's whole chain and against libjpeg-turbo decoding alone?

    python benchmarks/image_decode.py [--repeats 7] [--images FOLDER]

Decode, resize the shortest edge to 256, crop 224 x 224, to uint8; one core unless a row says otherwise. The baseline of
each filter is Pillow's own chain, `open().convert("RGB").resize().crop()`. "libjpeg-turbo, decoding alone" is
`tjDecompress2` of the system's libturbojpeg (the library that coldpress is built with here) into one reused buffer:
the same transform and upsampling (ISLOW, fancy), no resize, no crop, nothing kept. `equal` counts the images whose
bytes are Pillow's.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import io
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from harness import Engine, arguments, compare, report
from PIL import Image, features

from coldpress import _image
from coldpress.preprocess.image import ImagePreprocessor
from coldpress.types import ImageSpec

EDGE, CROP, UNIT, MAX_PIXELS = 256, 224, "images/s", 10**8
PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "imagenet_sample" / "images"
ACCURATE_DCT = 4096  # TJFLAG_ACCURATEDCT


def pillow_chain(file: bytes, resample: str) -> npt.NDArray[np.uint8]:
    """Resize and crop as transformers does it with Pillow."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    width, height = image.size
    if width <= height:
        image = image.resize((EDGE, int(EDGE * height / width)), Image.Resampling[resample.upper()])
    else:
        image = image.resize((int(EDGE * width / height), EDGE), Image.Resampling[resample.upper()])
    left, top = (image.width - CROP) // 2, (image.height - CROP) // 2
    return np.asarray(image.crop((left, top, left + CROP, top + CROP)))


def decoding_alone(files: list[bytes]) -> Callable[[], None]:
    """Return a function that decodes every file with libturbojpeg into one buffer."""
    name = ctypes.util.find_library("turbojpeg")
    if name is None:
        sys.exit("libturbojpeg is not installed; on Debian: apt-get install libturbojpeg0")
    library = ctypes.CDLL(name)
    library.tjInitDecompress.restype = ctypes.c_void_p
    handle, size = ctypes.c_void_p(library.tjInitDecompress()), [ctypes.c_int() for _ in range(4)]
    buffer = ctypes.create_string_buffer(3 * max(w * h for w, h in (Image.open(io.BytesIO(f)).size for f in files)))

    def run() -> None:
        for file in files:
            length = ctypes.c_ulong(len(file))
            library.tjDecompressHeader3(handle, file, length, *map(ctypes.byref, size))
            if library.tjDecompress2(handle, file, length, buffer, size[0], 0, size[1], 0, ACCURATE_DCT) != 0:
                sys.exit("libturbojpeg cannot decode one of the images")

    return run


def ours(files: list[bytes], resample: str, level: str, threads: int = 1) -> Callable[[], Any]:
    """Return a function that runs the native path at one instruction set."""
    transform = _image.Transform(shortest_edge=EDGE, crop=(CROP, CROP), filter=resample)  # type: ignore[arg-type]

    def run() -> Any:
        _image.set_isa(level)
        return _image.load_jpegs(files, [transform], threads=threads, max_pixels=MAX_PIXELS)[0]

    return run


def engines_for(files: list[bytes], resample: str, threads: int) -> list[Engine]:
    """Everything to compare with one filter; Pillow, the baseline, last."""
    expected = [pillow_chain(file, resample) for file in files]

    def equal(images: Any) -> dict[str, int]:
        return {"equal": sum(np.array_equal(a, b) for a, b in zip(images, expected, strict=True))}

    engines = [Engine("libjpeg-turbo, decoding alone", decoding_alone(files))]
    levels = _image.isa_levels()
    for level in levels:
        run = ours(files, resample, level)
        engines.append(Engine(f"coldpress, {resample}, {level}", run, equal(run())))
    run = ours(files, resample, levels[-1], threads)
    engines.append(Engine(f"coldpress, {resample}, {threads} threads", run, equal(run())))
    spec = ImageSpec(("shortest_edge", EDGE), (CROP, CROP), resample, 1 / 255, (0.5,) * 3, (0.5,) * 3)  # type: ignore[arg-type]
    preprocess = ImagePreprocessor(spec)
    images = [item.pixels for item in preprocess(files)]  # type: ignore[union-attr]
    engines.append(Engine(f"coldpress, {resample}, with hashes", lambda: preprocess(files), equal(images)))
    engines.append(Engine(f"Pillow, {resample}", lambda: [pillow_chain(file, resample) for file in files]))
    return engines


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "image_decode.json")
    parser.add_argument("--images", type=Path, default=PHOTOS, help="folder of JPEG files")
    options = parser.parse_args()
    files = [path.read_bytes() for path in sorted(options.images.iterdir())]
    rows: list[dict[str, Any]] = []
    for resample in ("bicubic", "bilinear"):
        compared = compare(engines_for(files, resample, options.threads), len(files), UNIT, options.repeats)
        alone = compared[0]["seconds"]
        for row in compared:
            shares = [a / s for a, s in zip(alone, row["seconds"], strict=True)]
            row["of decoding alone"] = statistics.median(shares)
        rows += compared
    report(
        f"{len(files)} photos to {CROP} x {CROP} uint8: images per second, ratio to Pillow's chain",
        rows,
        UNIT,
        options.json,
        images=len(files),
        mean_bytes=sum(map(len, files)) / len(files),
        pillow=f"{features.version('pil')} with libjpeg-turbo {features.version('libjpeg_turbo')}",
        jpeg_library=_image.jpeg_library(),
    )


if __name__ == "__main__":
    main()
