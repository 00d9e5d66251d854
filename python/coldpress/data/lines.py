"""Plain text files: one text per line; for image models, one image path per line."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from coldpress.data import compression
from coldpress.data import location as place
from coldpress.data.rows import decode
from coldpress.data.source import File, Format, Source
from coldpress.errors import SourceError
from coldpress.types import Content, Failed, FileRef, Item

LARGEST_LINE = 64 * 2**20
"""Bytes of one line. Longer ones fail as items: decompressed, a small file can hold a line larger than memory."""

_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class LinesSource:
    """Item k is line k + 1. An empty line is an empty text, so that line numbers and items never part."""

    file: File

    @property
    def name(self) -> str:
        """The location."""
        return place.printable(self.file.location)

    @property
    def count(self) -> int | None:
        """Unknown without reading the file."""
        return None

    def measure(self) -> int:
        """How many lines there are, from reading them."""
        with open_utf8(self.file.location) as stream:
            return sum(1 for _ in bounded_lines(stream))

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from line `start` + 1 on."""
        with open_utf8(self.file.location) as stream:
            for number, raw in enumerate(islice(bounded_lines(stream), start, None), start + 1):
                text = raw if isinstance(raw, Failed) else decode(raw.removesuffix(b"\n").removesuffix(b"\r"))
                content = text if self.file.modality == "text" else self._image(text)
                yield Item(self.file.item_key(number), content, self.file.item_source(number))

    def _image(self, line: str | Failed) -> Content | Failed:
        if isinstance(line, Failed):
            return line
        if not line:
            return Failed("empty line, expected the path of an image")
        return FileRef(place.join(self.file.folder, line))


def open_utf8(location: str) -> io.BufferedReader:
    """Open a text file, compressed or not, as bytes behind its UTF-8 byte order mark if it has one.

    Lines are taken as bytes and decoded one by one: a bad byte then costs one line instead of the file.
    """
    stream = compression.open_stream(location)
    mark = stream.peek(3)
    if mark.startswith(_WIDE_MARKS):
        stream.close()
        raise SourceError(f"{location}: is UTF-16, expected UTF-8; convert it with: iconv -f UTF-16 -t UTF-8")
    if mark.startswith(codecs.BOM_UTF8):
        stream.read(3)
    return stream


def bounded_lines(stream: io.BufferedReader) -> Iterator[bytes | Failed]:
    """Lines with their ends; one of more than `LARGEST_LINE` bytes is passed over piece by piece."""
    while raw := stream.readline(LARGEST_LINE + 1):
        if len(raw) <= LARGEST_LINE:
            yield raw
            continue
        while raw and not raw.endswith(b"\n"):
            raw = stream.readline(2**20)
        yield Failed(f"too large: a line of more than {LARGEST_LINE // 2**20} MiB")


def _open(file: File) -> Source:
    open_utf8(file.location).close()
    return LinesSource(file)


FORMAT = Format("text lines", (".txt",), _open, compression.SUFFIXES)
