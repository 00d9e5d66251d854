"""Items that are already in Python: lists, arrays, generators, dictionaries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import islice
from typing import Any

import numpy as np
import PIL.Image

from coldpress.errors import SourceError
from coldpress.types import Content, Failed, FileRef, Item, Modality, Scalar


class MemorySource:
    """Contents from any iterable, or from anything with a length and items by number, as PyTorch datasets are.

    Parameters
    ----------
    data
        Contents, pairs, a mapping of keys to contents, or `Item` values. A content is a string for text models; for
        image models encoded bytes, a path, a PIL image or an array (height, width, 3) uint8. A pair is ``(key,
        content)`` where the first is a string and the second can be a content; else, as PyTorch datasets give it,
        ``(content, label)``: the label is a number, or behind an image that is no string also a string, and becomes
        the metadata column ``label``. Without keys of their own, items are numbered from ``"0"``. An iterator can be
        read once; everything else as often as one likes.
    modality
        ``"text"`` or ``"image"``.

    Raises
    ------
    SourceError
        If `data` is a single content instead of an iterable of them. A content of a wrong type is a failed item, and
        so is one that a dataset with items by number raises an exception for.

    Examples
    --------
    >>> [item.key for item in MemorySource({"a": "first text", "b": "second text"}, "text").items()]
    ['a', 'b']
    """

    def __init__(self, data: Any, modality: Modality) -> None:
        self._by_number = not isinstance(data, Iterable) and isinstance(data, Sized) and hasattr(data, "__getitem__")
        if isinstance(data, str | bytes) or not (isinstance(data, Iterable) or hasattr(data, "__getitem__")):
            raise SourceError(f"got a single {type(data).__name__}, expected a list or another iterable of items")
        self._keyed = isinstance(data, Mapping)
        self._data: Any = data.items() if self._keyed else data
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
        return (self._item(number, value) for number, value in self._values(start))

    def _values(self, start: int) -> Iterator[tuple[int, Any]]:
        if self._by_number:
            return ((number, self._get(number)) for number in range(start, len(self._data)))
        return enumerate(islice(self._data, start, None), start)

    def _get(self, number: int) -> Any:
        try:
            return self._data[number]
        except Exception as error:  # a dataset reads files in here, of which one may be broken
            return Failed(f"{type(error).__name__}: {error}")

    def _item(self, number: int, value: Any) -> Item:
        if isinstance(value, Item):
            return value
        if isinstance(value, Failed):
            return Item(str(number), value)
        key, content, metadata = (str(value[0]), value[1], {}) if self._keyed else _take_apart(value)
        made = _text(content) if self._modality == "text" else _image(content)
        return Item(str(number) if key is None else key, made, "", metadata)


def _take_apart(value: Any) -> tuple[str | None, Any, dict[str, Scalar]]:
    """Key, content and metadata of a content by itself or in a pair."""
    if not (isinstance(value, tuple) and len(value) == 2):
        return None, value, {}
    first, second = value
    if getattr(second, "ndim", None) == 0:  # a number of numpy or torch
        return None, first, {"label": second.item()}
    if isinstance(second, int | float) or (not isinstance(first, str) and (second is None or isinstance(second, str))):
        return None, first, {"label": second}
    return (first, second, {}) if isinstance(first, str) else (None, value, {})


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
