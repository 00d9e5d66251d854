"""Arrow IPC files, stream or file layout (Feather): what Hugging Face datasets keep on disk."""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import pyarrow as pa
from pyarrow import ipc

from coldpress._urls import is_url
from coldpress.data import location as place
from coldpress.data import tables
from coldpress.data.rows import RowReader
from coldpress.data.source import File, Format, Source
from coldpress.errors import SourceError
from coldpress.types import Item

_MAGIC = b"ARROW1"  # the file layout begins with it, the stream layout with a message


@dataclass(frozen=True)
class ArrowSource:
    """Item k is row k of the files one after the other; keys count rows from 1.

    Local files are mapped into memory: rows before the start cost nothing but their batch headers.
    """

    rows: RowReader
    locations: tuple[str, ...]
    counted: str

    @property
    def name(self) -> str:
        """The location."""
        return place.printable(self.rows.file.location)

    @cached_property
    def count(self) -> int | None:
        """The number of rows of local files, from one walk over their batches; None if one is damaged.

        Of compressed ones the `counted` column is decompressed, so it is a column of numbers where there is one.
        """
        if any(is_url(location) for location in self.locations):
            return None
        try:
            return sum(batch.num_rows for location in self.locations for batch in _batches(location, [self.counted]))
        except SourceError:  # for `items` to say, behind the rows before the damage
            return None

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from row `start` on."""
        begin = 0
        for location in self.locations:
            for batch in _batches(location, self.rows.used):
                if begin + batch.num_rows > start:
                    _check(batch, location, begin)
                    yield from tables.items([batch], self.rows, begin, start)
                begin += batch.num_rows


def open_files(file: File, locations: tuple[str, ...]) -> Source:
    """Open Arrow files with the same columns as one source; `file` says where they lie and how keys begin."""
    with _opened(locations[0], None) as (schema, _):
        rows = tables.resolve(file, schema)
        numbers = (field.name for field in schema if pa.types.is_primitive(field.type))
        return ArrowSource(rows, locations, next(numbers, rows.content))


def _batches(location: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    row = 0
    with _opened(location, columns) as (_, batches):
        try:
            for batch in batches:
                yield batch
                row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{place.printable(location)}: damaged after row {row}: {error}") from error


@contextmanager
def _opened(location: str, columns: list[str] | None) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """The schema of a file and its batches, reduced to some columns."""
    with place.open_binary(location) as stream:
        try:
            if is_url(location):
                source: pa.NativeFile = pa.PythonFile(cast(io.IOBase, stream), "r")
            else:
                size = Path(location).stat().st_size
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
                source = pa.BufferReader(pa.py_buffer(mapped))
            yield _open_ipc(source, columns)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{place.printable(location)}: not a readable Arrow file: {error}") from error
        except KeyError as error:
            raise SourceError(f"{place.printable(location)}: no column {error}, which the first file has") from error


def _open_ipc(source: pa.NativeFile, columns: list[str] | None) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    is_file = source.read(len(_MAGIC)) == _MAGIC
    open_reader = ipc.open_file if is_file else ipc.open_stream
    source.seek(0)
    reader = open_reader(source)
    schema = reader.schema
    if columns is not None:
        wanted = [_index(schema, name) for name in columns]
        source.seek(0)
        reader = open_reader(source, options=ipc.IpcReadOptions(included_fields=wanted))
    if isinstance(reader, ipc.RecordBatchFileReader):
        return schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
    return schema, iter(reader)


def _index(schema: pa.Schema, name: str) -> int:
    if name not in schema.names:
        raise KeyError(name)
    return schema.names.index(name)


def _check(batch: pa.RecordBatch, location: str, row: int) -> None:
    """Refuse offsets that point outside of the data: Arrow itself trusts them, and would read foreign memory."""
    for column in batch.columns:
        # Text is checked as bytes: a string that is not UTF-8 costs its row and not the file.
        raw = column.view(_AS_BYTES[column.type]) if column.type in _AS_BYTES else column
        try:
            raw.validate(full=True)
        except pa.ArrowException as error:
            raise SourceError(f"{place.printable(location)}: damaged after row {row}: {error}") from error


_AS_BYTES: dict[pa.DataType, pa.DataType] = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}


def _open(file: File) -> Source:
    return open_files(file, (file.location,))


FORMAT = Format("Arrow", (".arrow", ".feather", ".ipc"), _open)
