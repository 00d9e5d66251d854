"""JSON lines: one object per line. Blank lines are no records; a bad line is a failed item."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from coldpress.data import compression
from coldpress.data import location as place
from coldpress.data.lines import bounded_lines, open_utf8
from coldpress.data.rows import RowReader, decode, is_scalar
from coldpress.data.source import File, Format, Source
from coldpress.errors import SourceError
from coldpress.types import Failed, Item

_LOOK_AHEAD = 100
"""Records read at opening to learn the column names: enough to survive bad or incomplete first lines."""


@dataclass(frozen=True)
class JsonLinesSource:
    """Item k is the k-th line that is not blank; keys carry the true line number."""

    rows: RowReader

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
            return sum(1 for _ in _records(stream))

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from record `start` on; the lines before it are read but not parsed."""
        with open_utf8(self.rows.file.location) as stream:
            for number, raw in islice(_records(stream), start, None):
                record = _parse(raw)
                yield (
                    self.rows.failed(number, record.reason)
                    if isinstance(record, Failed)
                    else self.rows.item(number, record)
                )


def _records(stream: io.BufferedReader) -> Iterator[tuple[int, bytes | Failed]]:
    lines = enumerate(bounded_lines(stream), 1)
    return ((number, raw) for number, raw in lines if isinstance(raw, Failed) or not raw.isspace())


def _parse(raw: bytes | Failed) -> dict[str, object] | Failed:
    text = raw if isinstance(raw, Failed) else decode(raw)
    if isinstance(text, Failed):
        return text
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Failed(f"not valid JSON: {error}")
    if not isinstance(record, dict):
        return Failed(f"record is {type(record).__name__}, expected a JSON object")
    return record


def _open(file: File) -> Source:
    names: dict[str, bool] = {}  # and whether all values seen are scalars
    with open_utf8(file.location) as stream:
        for _, raw in islice(_records(stream), _LOOK_AHEAD):
            record = _parse(raw)
            if isinstance(record, dict):
                names.update({name: names.get(name, True) and is_scalar(value) for name, value in record.items()})
    if not names:
        raise SourceError(f"{file.location}: no JSON object in its first {_LOOK_AHEAD} lines, expected one per line")
    scalars = [name for name, scalar in names.items() if scalar]
    return JsonLinesSource(RowReader.resolve(file, list(names), scalars))


FORMAT = Format("JSON lines", (".jsonl", ".ndjson"), _open, compression.SUFFIXES)
