"""CSV and TSV files with a header row, quoted fields over several lines included."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from coldpress.data import compression
from coldpress.data import location as place
from coldpress.data.lines import bounded_lines, open_utf8
from coldpress.data.rows import RowReader
from coldpress.data.source import File, Format, Source
from coldpress.errors import SourceError
from coldpress.types import Failed, Item

_LARGEST_FIELD = 64 * 2**20
"""Characters in one field, which may have many lines. The csv module's own 131,072 are fewer than real documents."""


@dataclass(frozen=True)
class CsvSource:
    """Item k is the k-th record after the header; blank lines are no records.

    A key carries the line on which its record starts. A record with more or fewer fields than the header, or with
    bytes that are not UTF-8 in the fields that are used, is a failed item.
    """

    rows: RowReader
    header: tuple[str, ...]
    delimiter: str

    @property
    def name(self) -> str:
        """The location."""
        return place.printable(self.rows.file.location)

    @property
    def count(self) -> int | None:
        """Unknown without reading the file."""
        return None

    def measure(self) -> int:
        """How many records there are, from reading them."""
        with open_utf8(self.rows.file.location) as stream:
            return sum(1 for _ in _records(stream, self.delimiter)) - 1  # the header

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from record `start` on."""
        with open_utf8(self.rows.file.location) as stream:
            records = _records(stream, self.delimiter)
            next(records)  # the header
            for number, fields in islice(records, start, None):
                yield self._item(number, fields)

    def _item(self, number: int, fields: list[str] | Failed) -> Item:
        if isinstance(fields, Failed):
            return self.rows.failed(number, fields.reason)
        if len(fields) != len(self.header):
            return self.rows.failed(number, f"record has {len(fields)} fields, expected {len(self.header)}")
        row = dict(zip(self.header, fields, strict=True))
        for column in self.rows.used:
            # surrogateescape has smuggled undecodable bytes through the parser: find out before anyone uses them.
            if not row[column].isascii() and not _is_unicode(row[column]):
                return self.rows.failed(number, f"not UTF-8: column '{column}'")
        return self.rows.item(number, row)


def records_of(location: str) -> Iterator[tuple[int, list[str]]]:
    """Records of a file with the line each starts on, the header among them; those that are damaged are left out."""
    with open_utf8(location) as stream:
        delimiter = _delimiter(location, _first_line(stream))
    with open_utf8(location) as stream:
        yield from ((number, fields) for number, fields in _records(stream, delimiter) if isinstance(fields, list))


def _records(stream: io.BufferedReader, delimiter: str) -> Iterator[tuple[int, list[str] | Failed]]:
    """Records with the line each starts on."""
    csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_FIELD))
    lines = _Lines(stream)
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        number = lines.number + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except _LineTooLargeError as error:
            yield number, Failed(str(error))
            continue
        except csv.Error as error:
            yield number, Failed(f"not valid CSV: {error}")
            continue
        if lines.ended:  # the reader asked for a line more: it is inside quotes
            yield number, Failed("not valid CSV: a quote is never closed, and takes in the rest of the file")
        elif fields:
            yield number, fields


class _LineTooLargeError(Exception):
    """Passes through the csv module, which begins the next record on the next line."""


class _Lines(Iterator[str]):
    r"""Lines as the csv module wants them: a lone ``\r`` ends one too."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._lines = bounded_lines(stream)
        self._pieces: Iterator[str] = iter(())
        self.number, self.ended = 0, False

    def __next__(self) -> str:
        piece = next(self._pieces, None)
        if piece is not None:
            self.number += 1
            return piece
        raw = next(self._lines, None)
        if raw is None:
            self.ended = True
            raise StopIteration
        self.number += 1
        if isinstance(raw, Failed):
            raise _LineTooLargeError(raw.reason)
        text = raw.decode("utf-8", "surrogateescape")
        if text.find("\r", 0, len(text) - 2 if text.endswith("\r\n") else None) < 0:
            return text
        self._pieces = iter(io.StringIO(text, newline=""))
        return next(self._pieces)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _first_line(stream: io.BufferedReader) -> str:
    lines = (line for line in bounded_lines(stream) if isinstance(line, bytes) and line.strip())
    return next(lines, b"").decode("utf-8", "replace")


def _delimiter(location: str, header: str) -> str:
    """A tab for .tsv; for .csv a comma unless the header has none and another usual delimiter."""
    if compression.plain_name(location).lower().endswith(".tsv"):
        return "\t"
    return next((delimiter for delimiter in ",;\t|" if delimiter in header), ",")


def _open(file: File) -> Source:
    with open_utf8(file.location) as stream:
        delimiter = _delimiter(file.location, _first_line(stream))
    with open_utf8(file.location) as stream:
        _, header = next(_records(stream, delimiter), (0, Failed("the file is empty")))
    if isinstance(header, Failed):
        raise SourceError(f"{file.location}: {header.reason}, expected a header row with column names")
    return CsvSource(RowReader.resolve(file, header, header), tuple(header), delimiter)


FORMAT = Format("CSV", (".csv", ".tsv"), _open, compression.SUFFIXES)
