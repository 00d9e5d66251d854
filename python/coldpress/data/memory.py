"""Items that are already in Python: lists, arrays, generators, dictionaries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import islice
from typing import Any

import numpy as np
import PIL.Image

from coldpress.errors import SourceError
from coldpress.types import Content, Failed, FileRef, Item, Modality


class MemorySource:
    """Contents from any iterable.

    Parameters
    ----------
    data
        Contents, ``(key, content)`` pairs, a mapping of keys to contents, or `Item` values. A content is a string for
        text models; for image models encoded bytes, a path, a PIL image or an array (height, width, 3) uint8.
        Without keys of their own, items are numbered from ``"0"``. An iterator can be read once; everything else as
        often as one likes.
    modality
        ``"text"`` or ``"image"``.

    Raises
    ------
    SourceError
        If `data` is a single content instead of an iterable of them. A content of a wrong type is a failed item.

    Examples
    --------
    >>> [item.key for item in MemorySource({"a": "first text", "b": "second text"}, "text").items()]
    ['a', 'b']
    """

    def __init__(self, data: Iterable[Any], modality: Modality) -> None:
        if isinstance(data, str | bytes) or not (isinstance(data, Iterable) or hasattr(data, "__getitem__")):
            raise SourceError(f"got a single {type(data).__name__}, expected a list or another iterable of items")
        self._data: Iterable[Any] = data.items() if isinstance(data, Mapping) else data
        self._modality: Modality = modality
        self._once = isinstance(data, Iterator)
        self._spent = False

    @property
    def name(self) -> str:
        """Always the same: what is in memory has no name of its own."""
        return "items in memory"

    @property
    def count(self) -> int | None:
        """The length, where there is one."""
        return len(self._data) if isinstance(self._data, Sized) else None

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from number `start` on; an iterator cannot be read a second time."""
        if self._once and self._spent:
            raise SourceError("the iterator has been read already; pass a list, or a new iterator")
        self._spent = True
        return (self._item(number, value) for number, value in enumerate(islice(self._data, start, None), start))

    def _item(self, number: int, value: Any) -> Item:
        if isinstance(value, Item):
            return value
        key = str(number)
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
            key, value = value
        return Item(key, _text(value) if self._modality == "text" else _image(value))


def _text(value: Any) -> Content | Failed:
    return value if isinstance(value, str) else Failed(f"got {type(value).__name__}, expected a string")


def _image(value: Any) -> Content | Failed:
    if isinstance(value, bytes | PIL.Image.Image | FileRef):
        return value
    if isinstance(value, str | os.PathLike):
        return FileRef(os.fspath(value))
    if isinstance(value, np.ndarray):
        if value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3 and value.size:
            return value
        return Failed(f"got an array {value.shape} {value.dtype}, expected (height, width, 3) uint8")
    return Failed(
        f"got {type(value).__name__}, expected bytes, a path, a PIL image or an array (height, width, 3) uint8"
    )
