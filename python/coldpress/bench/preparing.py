"""How fast items can be prepared at most: the tokenizer by itself, or JPEG decoding by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from PIL import Image

from coldpress.models import LoadedModel
from coldpress.models.tokenizers import open_tokenizer
from coldpress.preprocess.image import PILLOW_PIXEL_LIMIT

try:
    from coldpress import _image
except ImportError:
    _image = None  # type: ignore[assignment]

LEAST_S = 0.3


def tokenizing_alone(model: LoadedModel, texts: Sequence[str]) -> float:
    """Texts per second of the tokenizers library, with the threads that it takes by itself."""
    assert model.directory is not None
    tokenizer = open_tokenizer(model.directory)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return len(texts) * _times_per_s(lambda: tokenizer.encode_batch_fast(texts))


def decoding_alone(files: Sequence[bytes], threads: int) -> float:
    """Images per second, all pixels decoded and none resized; by Pillow where the compiled part is missing."""
    if _image is not None and _image.jpeg_library():
        ways = [_image.Transform()]
        load = _image.load_jpegs
        return len(files) * _times_per_s(lambda: load(files, ways, threads=threads, max_pixels=PILLOW_PIXEL_LIMIT))
    with ThreadPoolExecutor(threads) as pool:
        return len(files) * _times_per_s(lambda: list(pool.map(_decode, files)))


def _decode(file: bytes) -> None:
    Image.open(BytesIO(file)).load()


def _times_per_s(work: Callable[[], object]) -> float:
    """How often `work` can be done in a second, once it is warm: the best of a few times."""
    best, spent, times = float("inf"), 0.0, 0
    while times < 3 or spent < LEAST_S:
        begin = time.perf_counter()
        work()
        seconds = time.perf_counter() - begin
        best, spent, times = min(best, seconds), spent + seconds, times + 1
    return 1 / best
