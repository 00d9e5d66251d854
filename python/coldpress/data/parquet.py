"""Parquet files: texts, image bytes, image paths, or images as Hugging Face datasets store them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coldpress.data import location as place
from coldpress.data.rows import RowReader
from coldpress.data.source import File, Format, Source
from coldpress.errors import SourceError
from coldpress.types import Failed, Item

_BATCH_ROWS = {"text": 1024, "image": 64}
"""Rows decoded at a time: images may be megabytes each."""


@dataclass(frozen=True)
class ParquetSource:
    """Item k is row k; keys count rows from 1. Row groups before the start are not read."""

    rows: RowReader
    group_rows: tuple[int, ...]

    @property
    def name(self) -> str:
        """The location."""
        return place.printable(self.rows.file.location)

    @property
    def count(self) -> int | None:
        """The number of rows, from the file's footer."""
        return sum(self.group_rows)

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from row `start` on."""
        first, begin = 0, 0  # the row group to start with, and its first row
        while first < len(self.group_rows) and begin + self.group_rows[first] <= start:
            begin += self.group_rows[first]
            first += 1
        groups = list(range(first, len(self.group_rows)))
        if not groups:
            return
        file = self.rows.file
        with place.open_binary(file.location) as stream:
            parquet = pq.ParquetFile(stream)
            batches = parquet.iter_batches(_BATCH_ROWS[file.modality], groups, self.rows.used, use_threads=False)
            while (batch := self._next(batches, begin)) is not None:
                skipped = min(max(start - begin, 0), batch.num_rows)
                columns = {name: _values(batch.column(name).slice(skipped)) for name in self.rows.used}
                for offset in range(batch.num_rows - skipped):
                    row = {name: values[offset] for name, values in columns.items()}
                    yield self.rows.item(begin + skipped + offset + 1, row)
                begin += batch.num_rows

    def _next(self, batches: Iterator[pa.RecordBatch], row: int) -> pa.RecordBatch | None:
        try:
            return next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{self.name}: damaged after row {row}: {error}") from error


def _values(column: pa.Array[Any]) -> list[Any]:
    """Python values; one string that is not UTF-8 costs its row and not the batch."""
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = [_value(scalar) for scalar in column]
    return values


def _value(scalar: pa.Scalar[Any]) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return Failed(f"not UTF-8: {error}")


def _is_string(value_type: pa.DataType) -> bool:
    return pa.types.is_string(value_type) or pa.types.is_large_string(value_type) or pa.types.is_string_view(value_type)


def _open(file: File) -> Source:
    with place.open_binary(file.location) as stream:
        try:
            parquet = pq.ParquetFile(stream)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{file.location}: not a readable parquet file: {error}") from error
        rows = RowReader.resolve(file, parquet.schema_arrow.names)
        _check_type(rows, parquet.schema_arrow.field(rows.content).type)
        metadata = parquet.metadata
        return ParquetSource(rows, tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)))


def _check_type(rows: RowReader, found: pa.DataType) -> None:
    value_type = found.value_type if isinstance(found, pa.DictionaryType) else found
    is_binary: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
    )
    fits = _is_string(value_type) or any(test(value_type) for test in is_binary)
    if rows.file.modality == "image" and isinstance(value_type, pa.StructType):
        fits = any(value_type.get_field_index(name) >= 0 for name in ("bytes", "path"))
    if not fits:
        expected = "string" if rows.file.modality == "text" else "binary, string or struct<bytes, path>"
        raise SourceError(
            f"{rows.file.location}: column '{rows.content}' has type {found}, expected {expected}; "
            f"name another with --{rows.file.modality}-column"
        )


FORMAT = Format("parquet", (".parquet", ".pq"), _open)
