"""The bytes of images, from wherever they lie, and the hash that names them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from coldpress._urls import concerns_all, is_url
from coldpress.errors import SourceError
from coldpress.types import Content, Failed, FileRef

Pixels = npt.NDArray[np.uint8]


_REQUESTS = 16
"""Images behind URLs that one chunk asks for at a time: at 50 ms a request 320 a second and worker."""


@dataclass(frozen=True, slots=True)
class File:
    """An encoded image, not looked at yet."""

    data: bytes
    content_hash: str


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """The same as RGB (height, width, 3)."""

    pixels: Pixels
    content_hash: str


Source = File | DecodedFile | Image.Image | Pixels


def read_images(contents: Sequence[Content]) -> list[Source | Failed]:
    """Each of them; those behind URLs many at a time, for what takes time there is the way."""
    if not any(isinstance(content, FileRef) and is_url(content.url) for content in contents):
        return [_read_image(content) for content in contents]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return list(pool.map(_read_image, contents))


def _read_image(content: Content) -> Source | Failed:
    """A file's bytes with their hash; images in memory as they are."""
    if isinstance(content, str):
        content = FileRef(content)
    try:
        data = content.read() if isinstance(content, FileRef) else content
    except FileNotFoundError:
        return Failed("file not found")
    except IsADirectoryError:
        return Failed("a directory, not a file")
    except Exception as error:  # every fsspec backend has exceptions of its own
        if isinstance(content, FileRef) and is_url(content.url) and concerns_all(error):
            raise SourceError(
                f"{content.url}: cannot be read: {first_line(error)}; committed shards are intact: run the same "
                "command again once service and credentials are in order"
            ) from error
        return Failed(
            "permission denied" if isinstance(error, PermissionError) else f"cannot read: {first_line(error)}"
        )
    if isinstance(data, bytes):
        return File(data, hash_image(data)) if data else Failed("empty file")
    return data if isinstance(data, (Image.Image, np.ndarray)) else Failed(f"{type(data).__name__} is not an image")


def hash_image(content: bytes | Pixels) -> str:
    """32 hexadecimal digits that name an encoded file, or decoded pixels with their shape."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()[:32]
    digest = hashlib.sha256(f"{content.shape}".encode())
    digest.update(np.ascontiguousarray(content).data)
    return digest.hexdigest()[:32]


def first_line(error: Exception) -> str:
    """What an error says, without its further lines."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
