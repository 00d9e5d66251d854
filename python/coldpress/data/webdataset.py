"""WebDataset tar files: neighbouring members that share a name up to its first dot are one sample."""

from __future__ import annotations

import codecs
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice

from coldpress._urls import is_url
from coldpress.data import compression
from coldpress.data import location as place
from coldpress.data.folder import IMAGE_SUFFIXES
from coldpress.data.rows import RowReader, carried, check_columns, detect, is_scalar
from coldpress.data.source import File, Format, Source
from coldpress.data.tarfiles import Archive, Member
from coldpress.errors import SourceError
from coldpress.types import Failed, Item

logger = logging.getLogger(__name__)

LARGEST_IMAGE = 256 * 2**20
LARGEST_COMPANION = 64 * 2**20
"""Bytes of a member. Larger ones fail as items; their bytes are passed over."""

_LOOK_AHEAD = 10
"""Samples looked at on opening to learn which members and entries there are: of a URL they have to be fetched."""

_NAME = re.compile(r"(?:\./)*((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
_META = re.compile(r"__[^/]*__(?:$|/)")  # the package webdataset skips these, too

_Sample = tuple[str, Iterator[tuple[str, Member]]]


@dataclass(frozen=True)
class TarSource:
    """Item k is sample k. Keys are ``shard.tar/name``, unique as long as a shard's names are.

    The image is the member with an image suffix; one with a second dot (``0001.mask.png``) counts only where there is
    no other. Two of the same rank need ``Columns(image="jpg")``. Text is the member ``txt``. ``cls`` becomes the
    metadata column ``label``, an integer where it is one. Every entry of ``json`` can be named as a column; a member
    of the same name goes first.
    """

    rows: RowReader
    needs_json: bool

    @property
    def name(self) -> str:
        """The location."""
        return place.printable(self.rows.file.location)

    @property
    def count(self) -> int | None:
        """Unknown without walking through the archive."""
        return None

    def measure(self) -> int:
        """How many samples there are, from the headers."""
        with _samples(self.rows.file.location) as samples:
            return sum(1 for _ in samples)

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from sample `start` on; of those before, only the headers are looked at."""
        with _samples(self.rows.file.location) as samples:
            for number, (name, members) in enumerate(samples, 1):
                if number > start:
                    yield self.rows.item(number, self._row(members), place.printable(name))

    def _row(self, members: Iterator[tuple[str, Member]]) -> dict[str, object]:
        """The columns of a sample that are asked for."""
        row: dict[str, object] = {}
        entries: dict[str, object] = {}
        extensions: Counter[str] = Counter()
        image: tuple[int, object] = (0, None)
        wanted, content = self.rows.used, self.rows.content
        asked = self.rows.file.columns.image
        for extension, member in members:
            extensions[extension] += 1
            rank = _rank(extension, asked) if self.rows.file.modality == "image" else 0
            if rank and rank == image[0]:
                image = (rank, Failed(_ambiguous(extensions, asked)))
            elif rank > image[0]:
                image = (rank, member.read(LARGEST_IMAGE))
            elif extension == "json" and self.needs_json:
                entries = _entries(member)
            elif extension in wanted or (extension == "cls" and "label" in wanted):
                row[extension] = _companion(member) if extensions[extension] == 1 else _repeated(extension)
        if "cls" in row:
            row["cls"] = row["label"] = _class(row["cls"])
        row = entries | row
        if image[0]:
            row[content] = image[1]
        elif content not in row:
            row[content] = Failed(f"no {asked or self.rows.file.modality} in this sample: it has {_listed(extensions)}")
        return row


@contextmanager
def _samples(location: str) -> Iterator[Iterator[_Sample]]:
    """Samples as (name, members), each member with its extension; to be read in order."""
    can_seek = not (is_url(location) or compression.is_compressed(location))
    stream = place.open_binary(location) if can_seek else compression.open_stream(location)
    with stream:
        archive = Archive(stream, place.printable(location), can_seek=can_seek and stream.seekable())
        parts = ((_NAME.fullmatch(member.name), member) for member in archive if not _META.match(member.name))
        named = ((match[1], match[2].lower(), member) for match, member in parts if match is not None)
        yield (
            (name, ((extension, member) for _, extension, member in group))
            for name, group in groupby(named, key=lambda part: part[0])
        )


def _rank(extension: str, asked: str | None) -> int:
    """How much a member looks like the image: not at all (0), as one of several (1), as the one (2)."""
    if asked is not None:
        return 2 * (extension == asked)
    if f".{extension}" in IMAGE_SUFFIXES:
        return 2
    return int(f".{extension.rpartition('.')[2]}" in IMAGE_SUFFIXES)


def _companion(member: Member) -> object:
    value = member.read(LARGEST_COMPANION)
    return value if isinstance(value, Failed) else value.removeprefix(codecs.BOM_UTF8)


def _repeated(extension: str) -> Failed:
    return Failed(f"the sample has more than one member '{extension}'")


def _ambiguous(extensions: Iterable[str], asked: str | None) -> str:
    if asked is not None:
        return _repeated(asked).reason
    return f"members {_listed(extensions)} could be the image; name one with --image-column (Columns(image=...))"


def _entries(member: Member) -> dict[str, object]:
    """The entries of a json member; none where it cannot be read."""
    raw = member.read(LARGEST_COMPANION)
    try:
        found = json.loads(raw) if isinstance(raw, bytes) else None
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _class(raw: object) -> object:
    """A class label: an integer where it is written as one, else its text."""
    if not isinstance(raw, bytes):
        return raw
    text = raw.decode("utf-8", "backslashreplace").strip()
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else text


def _listed(extensions: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(extensions))


def _open(file: File) -> Source:
    members: dict[str, None] = {}
    entries: dict[str, bool] = {}  # and whether all values seen are scalars
    first: tuple[str, ...] = ()
    with _samples(file.location) as samples:
        for _, sample in islice(samples, _LOOK_AHEAD):
            extensions = []
            for extension, member in sample:
                extensions.append(extension)
                if extension == "json":
                    found = _entries(member)
                    entries.update({name: entries.get(name, True) and is_scalar(found[name]) for name in found})
            members.update(dict.fromkeys(extensions))
            first = first or tuple(extensions)
    if not members:
        logger.warning("%s: has no sample: no file with an extension", file.location)
        return TarSource(RowReader(file, "", None, ()), needs_json=False)
    beside = [*members, *(["label"] if "cls" in members else [])]
    names = list(dict.fromkeys((*beside, *entries)))
    scalars = [name for name in names if name == "label" or (name not in members and entries[name])]
    content = _content(file, names, first)
    rows = RowReader(file, content or "image", file.columns.key, carried(file, names, scalars, content or "image"))
    needed = {name for name in (content, rows.key, *rows.carried) if name is not None}
    return TarSource(rows, needs_json=not needed <= set(beside))


def _content(file: File, names: list[str], first: tuple[str, ...]) -> str | None:
    """The column with the content; None for an image that is a member: its extension may change between samples."""
    if file.modality == "text":
        check_columns(file, names, text=file.columns.text)
        return file.columns.text or ("txt" if "txt" in names else detect(file, names))
    asked = file.columns.image
    check_columns(file, names, image=asked)
    ranks = [_rank(extension, asked) for extension in first]
    if max(ranks) and ranks.count(max(ranks)) > 1:
        raise SourceError(f"{file.location}: {_ambiguous(first, asked)}")
    return asked if asked is not None and not max(ranks) else None


FORMAT = Format("WebDataset tar", (".tar", ".tgz"), _open, compression.SUFFIXES)
