"""Image files: a directory with everything below it, the matches of a pattern, or files named one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from coldpress.data import location as place
from coldpress.errors import SourceError
from coldpress.types import FileRef, Item

_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif", ".jp2")
_NETPBM = (".pbm", ".pgm", ".ppm", ".pnm")
IMAGE_SUFFIXES = frozenset(
    (*_JPEG, *_NETPBM, ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".tga", ".ico", ".avif")
)


@dataclass(frozen=True)
class Selection:
    """Which files below a directory are taken: those that match, with an image suffix unless `any_suffix`."""

    match: re.Pattern[str] | None = None
    depth: int | None = None
    any_suffix: bool = False

    def __contains__(self, relative: str) -> bool:
        suffix = relative[relative.rfind(".") :].lower()
        return (self.any_suffix or suffix in IMAGE_SUFFIXES) and (
            self.match is None or self.match.fullmatch(relative) is not None
        )


@dataclass(frozen=True)
class FolderSource:
    """Images below a directory in the order of their relative paths, which are their keys.

    Where the directory has sub-directories, each image carries the name of the one it sits in as ``label``
    (none for images at the top). The walk is lazy, so memory does not grow with the number of files.
    """

    root: str
    prefix: str = ""
    selection: Selection = Selection()

    def __post_init__(self) -> None:
        if next(self._paths(), None) is None:
            what = "matches the pattern" if self.selection.match else f"ends in {', '.join(sorted(IMAGE_SUFFIXES))}"
            raise SourceError(f"{self.name}: no image found: no file below it {what} (hidden files are skipped)")

    @property
    def name(self) -> str:
        """The directory."""
        return place.printable(self.root)

    @cached_property
    def count(self) -> int:
        """How many images there are; the first time it is asked for, the names are walked through once."""
        return sum(1 for _ in self._paths())

    @cached_property
    def _labelled(self) -> bool:
        return self.selection.depth != 0 and place.has_directories(self.root)

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from number `start` on; nothing but names is read for those before."""
        base = self.root if self.root.endswith("/") else self.root + "/"
        for relative in islice(self._paths(), start, None):
            location = base + relative
            shown = place.printable(relative)
            metadata = {"label": shown.split("/")[-2] if "/" in shown else None} if self._labelled else {}
            yield Item(self.prefix + shown, FileRef(location), place.printable(location), metadata)

    def _paths(self) -> Iterator[str]:
        return (path for path in place.walk(self.root, self.selection.depth) if path in self.selection)


@dataclass(frozen=True)
class FilesSource:
    """Image files named one by one, as (key, location), whatever their suffix."""

    files: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The first file and how many more."""
        more = len(self.files) - 1
        first = place.printable(self.files[0][1])
        return f"{first} and {more} more" if more else first

    @property
    def count(self) -> int:
        """The number of files."""
        return len(self.files)

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from number `start` on."""
        for key, location in self.files[start:]:
            yield Item(key, FileRef(location), place.printable(location))
