"""What a source of items is, what a file format provides, and how formats are found.

A format is one module of this package with a module-level ``FORMAT = Format(...)``; nothing else needs an edit.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from typing import Literal, Protocol

from coldpress.data import location as place
from coldpress.errors import SourceError
from coldpress.types import Item, Modality


class Source(Protocol):
    """An ordered, repeatable stream of items.

    The order never changes between runs over the same data: a store resumes by item number. A source with unknown
    `count` may have a method ``measure() -> int`` that finds it out for less than making every item.
    """

    @property
    def name(self) -> str:
        """What a person would call it, for messages and for the store."""

    @property
    def count(self) -> int | None:
        """How many items there are, where the format knows without reading everything; else None."""

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from number `start` on. Skipping is as cheap as the format allows."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a csv, jsonl, parquet, Arrow or tar file to read; None means: find out.

    `text` or `image` is found when exactly one column has a usual name (``text``, ``sentence``, ``content``...;
    ``image``, ``path``, ``file``...) or when there is only one column. `label` is found when a column is called
    ``label``. `key` is never guessed: items are then named after their file and line. `metadata` names more columns
    to carry into the store; ``"*"`` means all that hold one value a row. In a tar, the extensions of a sample and the
    entries of its ``.json`` are its columns.

    Keys from a key column are taken as they are, control characters included; it is up to the data that they are
    unique. A record without a key (empty, null, or neither string nor integer), or with one of more than 4,096
    characters, fails.
    """

    text: str | None = None
    image: str | None = None
    key: str | None = None
    label: str | None = None
    metadata: tuple[str, ...] | Literal["*"] = ()

    def __post_init__(self) -> None:
        if isinstance(self.metadata, str) and self.metadata != "*":
            raise SourceError(f"metadata is '{self.metadata}', expected a tuple of column names, or '*' for all")


@dataclass(frozen=True, slots=True)
class File:
    """A data file to open: where it lies, and the name its keys begin with (``part.jsonl`` in ``part.jsonl:17``).

    Its location may also be a directory that is read as one file.
    """

    location: str
    name: str
    modality: Modality
    columns: Columns
    is_directory: bool = False

    @property
    def folder(self) -> str:
        """What relative paths in it start from."""
        return self.location if self.is_directory else place.parent(self.location)

    def item_key(self, number: int) -> str:
        """The key of the record on line `number`, counted from 1."""
        return f"{self.name}:{number}"

    def item_source(self, number: int) -> str:
        """Where the record on line `number` can be found again."""
        return f"{place.printable(self.location)}:{number}"


@dataclass(frozen=True, slots=True)
class Format:
    """A file format with one record per item: its file name endings and how to open one file.

    `compressed` are endings that may follow. A directory with a file called as one of `markers` is of this format.
    """

    name: str
    suffixes: tuple[str, ...]
    open: Callable[[File], Source]
    compressed: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()


@cache
def formats() -> tuple[Format, ...]:
    """Every format of this package: the ``FORMAT`` of each of its modules, by name."""
    package = importlib.import_module("coldpress.data")
    modules = (importlib.import_module(f"coldpress.data.{m.name}") for m in pkgutil.iter_modules(package.__path__))
    found = (vars(module).get("FORMAT") for module in modules)
    return tuple(sorted((f for f in found if isinstance(f, Format)), key=lambda f: f.name))


def format_of(name: str) -> Format | None:
    """The format that a file name's ending stands for, the longest ending first (``.tar.gz`` before ``.gz``)."""
    endings = [
        (suffix + more, found) for found in formats() for suffix in found.suffixes for more in ("", *found.compressed)
    ]
    fitting = [pair for pair in endings if name.lower().endswith(pair[0])]
    return max(fitting, key=lambda pair: len(pair[0]))[1] if fitting else None


def directory_format(location: str) -> Format | None:
    """The format that a directory is one file of, told by what lies in it."""
    found = (f for f in formats() if any(place.kind(place.join(location, mark)) == "file" for mark in f.markers))
    return next(found, None)


@dataclass(frozen=True)
class Concatenated:
    """Several sources, one after the other."""

    sources: Sequence[Source]

    @property
    def name(self) -> str:
        """The names of the first few."""
        shown = ", ".join(source.name for source in self.sources[:3])
        more = len(self.sources) - 3
        return f"{shown} and {more} more" if more > 0 else shown

    @property
    def count(self) -> int | None:
        """The sum, where every source knows its own."""
        total = 0
        for source in self.sources:
            if (count := source.count) is None:
                return None
            total += count
        return total

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items of all sources; no item is made of a source before the one that holds the start."""
        for source in self.sources:
            if start and (length := _length(source)) <= start:
                start -= length
            else:
                yield from source.items(start)
                start = 0


def _length(source: Source) -> int:
    if (count := source.count) is not None:
        return count
    measure = getattr(source, "measure", None)
    return int(measure()) if measure else sum(1 for _ in source.items())


class Peeked:
    """A source whose first items somebody has looked at: `head`. They are not drawn a second time."""

    def __init__(self, source: Source, count: int) -> None:
        self._source = source
        self._rest: Iterator[Item] | None = source.items()
        self.head = list(islice(self._rest, count))

    @property
    def name(self) -> str:
        """That of the source."""
        return self._source.name

    @property
    def count(self) -> int | None:
        """That of the source."""
        return self._source.count

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from number `start` on."""
        if start or self._rest is None:
            return self._source.items(start)
        rest, self._rest = self._rest, None
        return chain(self.head, rest)


@dataclass(frozen=True)
class Limited:
    """The first `limit` items of a source."""

    source: Source
    limit: int

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise SourceError(f"limit is {self.limit}, expected at least 1")

    @property
    def name(self) -> str:
        """The name of the source: a limit changes how far it is read, not what it is."""
        return self.source.name

    @property
    def count(self) -> int | None:
        """The smaller of limit and count."""
        count = self.source.count
        return None if count is None else min(count, self.limit)

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from number `start` up to the limit."""
        return islice(self.source.items(start), max(self.limit - start, 0))
