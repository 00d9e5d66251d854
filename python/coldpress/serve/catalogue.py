"""`Catalogue`: what may be shown of the items of an index: their metadata, texts, thumbnails and places on the map.

Files are read from one directory that the operator has named, and only such as items of the index lie in; of an image
leaves nothing but a small copy that was decoded and encoded here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.embedding_map import EmbeddingMap
from coldpress.errors import ColdpressError
from coldpress.preprocess.thumbnail import thumbnail
from coldpress.serve.refusals import not_found

if TYPE_CHECKING:
    from coldpress.index import VectorIndex

HIDDEN = {"source", "num_tokens", "truncated"}
"""A path of the server, and what only the one who embedded wants to know."""

THUMBNAIL_SIDE = 256
SNIPPET_CHARACTERS = 400
_MOST_LINES = 1_000_000
_CHOICES = 50
_CACHED = 1024  # thumbnails, of about 10 kB


@dataclass(frozen=True, eq=False, slots=True)
class Spots:
    """N items on the map: `points` (N, 2), and the columns that they can be coloured by."""

    keys: Sequence[str]
    points: npt.NDArray[np.float32]
    columns: Mapping[str, Sequence[Any]]


class Catalogue:
    """What is known of items.

    Attributes
    ----------
    columns : metadata that may be shown and asked for.
    choices : the values of those columns that have few, the most frequent first: what a page offers.
    map : where some of the items lie in the plane, or None.

    Parameters
    ----------
    index : theirs.
    media : directory of their files; None: no file is read.
    drawn : the map of the index, if it has one.
    max_pixels : of an image.
    """

    def __init__(self, index: VectorIndex, media: Path | None, drawn: EmbeddingMap | None, max_pixels: int) -> None:
        self._index, self._media, self._max_pixels = index, None if media is None else media.resolve(), max_pixels
        self.columns = tuple(name for name in index.columns if name not in HIDDEN)
        self.map = drawn if drawn is not None and drawn.fingerprint == index.fingerprint.digest else None
        self.choices = self._offered()
        # Read now: the files are gone when the index is replaced on disk, while requests under way still ask for them.
        index.metadata([], [name for name in index.columns if name in self.columns or name == "source"])
        self._thumbnail = lru_cache(_CACHED)(self._draw)

    @property
    def has_thumbnails(self) -> bool:
        """Whether items can have pictures."""
        return self._media is not None and self._index.description.get("modality") == "image"

    def describe(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """``metadata`` of items and, where it can be had, their ``text``."""
        readable = self._media is not None and not self.has_thumbnails and "source" in self._index.columns
        table = self._index.metadata(keys, [*self.columns, *(["source"] if readable else [])])
        described = []
        for row in table.to_pylist():
            text = row.get("text") or (self._line(row["source"]) if readable else None)
            known = {name: plain(row[name]) for name in self.columns if name != "text"}
            described.append({"metadata": known, **({"text": text[:SNIPPET_CHARACTERS]} if text else {})})
        return described

    def thumbnail(self, key: str) -> bytes:
        """A small JPEG of an image.

        Raises
        ------
        Refused
            404 if there is none to show, whatever the reason.
        """
        nothing = not_found("no such picture here", "key")
        if not self.has_thumbnails:
            raise nothing
        try:
            (row,) = self._index.metadata([key], ["source"] if "source" in self._index.columns else []).to_pylist()
            return self._thumbnail(key, row.get("source") or "")
        except (ColdpressError, OSError, ValueError) as error:
            raise nothing from error

    @cached_property
    def spots(self) -> Spots:
        """The items on the map that are in the index.

        Raises
        ------
        Refused
            404 if the index has no map.
        """
        if self.map is None:
            raise not_found("this index has no map: make one with coldpress index --map")
        known = self._index.keys
        there = [i for i, key in enumerate(self.map.keys) if key in known]
        keys = [self.map.keys[i] for i in there]
        table = self._index.metadata(keys, list(self.choices))
        columns = {name: [plain(value) for value in table.column(name).to_pylist()] for name in self.choices}
        return Spots(keys, self.map.points[there], columns)

    def _offered(self) -> Mapping[str, Sequence[Any]]:
        found = self._index.choices(_CHOICES)
        return {name: [plain(value) for value in found[name]] for name in self.columns if name in found}

    def _draw(self, key: str, source: str) -> bytes:
        return thumbnail(self._file(source, key), THUMBNAIL_SIDE, self._max_pixels)

    def _line(self, source: str | None) -> str | None:
        """The text at ``file.txt:17``."""
        location, _, number = (source or "").rpartition(":")
        if not location.endswith(".txt") or not number.isdecimal() or int(number) > _MOST_LINES:
            return None
        try:
            with self._file(location, location).open(encoding="utf-8-sig", errors="replace") as file:
                return next(islice(file, int(number) - 1, None), "").strip() or None
        except (OSError, ValueError):
            return None

    def _file(self, *names: str) -> Path:
        """The first of these that is a file in the directory of the operator, links followed."""
        assert self._media is not None
        for name in filter(None, names):
            path = (self._media / name).resolve()
            if path.is_relative_to(self._media) and path.is_file():
                return path
        raise FileNotFoundError


def plain(value: Any) -> Any:
    """A value of metadata as JSON has it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
