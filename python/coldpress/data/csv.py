"""CSV and TSV files with a header row, quoted fields over several lines included."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from coldpress.data import location as place
from coldpress.data.lines import open_utf8
from coldpress.data.rows import RowReader
from coldpress.data.source import File, Format, Source
from coldpress.errors import SourceError
from coldpress.types import Failed, Item

_LARGEST_FIELD = 64 * 2**20
"""Characters in one field. The csv module's own limit of 131,072 is shorter than real documents."""


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

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from record `start` on."""
        with _open_text(self.rows.file.location) as stream:
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


def _records(stream: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | Failed]]:
    """Records with the line each starts on."""
    csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_FIELD))
    reader = csv.reader(stream, delimiter=delimiter)
    while True:
        number = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, Failed(f"not valid CSV: {error}")
            continue
        if fields:
            yield number, fields


def _open_text(location: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(open_utf8(location), encoding="utf-8", errors="surrogateescape", newline="")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _delimiter(file: File, header: str) -> str:
    """A tab for .tsv; for .csv a comma unless the header has none and another usual delimiter."""
    if file.location.lower().endswith(".tsv"):
        return "\t"
    return next((delimiter for delimiter in ",;\t|" if delimiter in header), ",")


def _open(file: File) -> Source:
    with _open_text(file.location) as stream:
        first = next((line for line in stream if line.strip()), "")
    delimiter = _delimiter(file, first)
    with _open_text(file.location) as stream:
        _, header = next(_records(stream, delimiter), (0, Failed("the file is empty")))
    if isinstance(header, Failed):
        raise SourceError(f"{file.location}: {header.reason}, expected a header row with column names")
    return CsvSource(RowReader.resolve(file, header), tuple(header), delimiter)


FORMAT = Format("CSV", (".csv", ".tsv"), _open)
