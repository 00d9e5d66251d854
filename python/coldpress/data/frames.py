"""Tables that are already in Python: pandas, polars, pyarrow, DuckDB and whatever else hands out Arrow data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from coldpress.data import tables
from coldpress.data.rows import RowReader
from coldpress.data.source import Columns, File, Source
from coldpress.errors import SourceError
from coldpress.types import Item, Modality

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True, slots=True)
class InMemory(File):
    """What has no location: rows are numbered from ``"0"``, and relative paths start from the working directory."""

    @property
    def folder(self) -> str:
        """Nothing to put in front of a path."""
        return ""

    def item_key(self, number: int) -> str:
        """The number of the row, counted from 0 as Python does."""
        return str(number - 1)

    def item_source(self, number: int) -> str:
        """Nothing: it cannot be found again."""
        return ""


@dataclass(frozen=True)
class TableSource:
    """Item k is row k of a table; `batches` gives its rows from any one on."""

    rows: RowReader
    count: int | None
    batches: Callable[[int], Iterator[pa.RecordBatch]]

    @property
    def name(self) -> str:
        """What the table was called when it was opened."""
        return self.rows.file.location

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from row `start` on."""
        return tables.items(self.batches(start), self.rows, start, start)


def open_table(value: Any, modality: Modality, columns: Columns) -> Source | None:
    """Open any object with ``__arrow_c_stream__``; None if it is not a table of named columns but a single one.

    Raises
    ------
    SourceError
        If the columns to read are in doubt, or cannot be had as Arrow data.
    """
    if isinstance(value, pa.Array | pa.ChunkedArray):
        value = pa.table({modality: value})
    if not hasattr(value, "__arrow_c_stream__"):
        return None
    file = InMemory("table in memory", "", modality, columns)
    try:
        schema = _open(value, file).schema
    except pa.ArrowInvalid as error:
        if "non-struct" in str(error):  # a Series, which is an iterable of contents
            return None
        raise
    rows = tables.resolve(file, pa.schema([field for field in schema if not _PANDAS_INDEX.fullmatch(field.name)]))

    spent = False

    def batches(start: int) -> Iterator[pa.RecordBatch]:
        nonlocal spent
        if spent:
            raise SourceError(f"{file.location}: the reader has been read already; pass a table, or a new reader")
        spent = isinstance(value, pa.RecordBatchReader)
        for batch in _open(value, file):
            if batch.num_rows > start:
                yield batch.slice(start)
            start = max(start - batch.num_rows, 0)

    return TableSource(rows, len(value) if isinstance(value, Sized) else None, batches)


def _open(value: Any, file: File) -> pa.RecordBatchReader:
    try:
        return value if isinstance(value, pa.RecordBatchReader) else pa.RecordBatchReader.from_stream(value)
    except pa.ArrowInvalid as error:
        if "non-struct" in str(error):
            raise
        raise _refusal(file, error) from error
    except (pa.ArrowException, TypeError) as error:
        raise _refusal(file, error) from error


def _refusal(file: File, error: Exception) -> SourceError:
    return SourceError(
        f"{file.location}: has no Arrow form ({error}); give a list of the contents, or of (key, content) pairs"
    )
