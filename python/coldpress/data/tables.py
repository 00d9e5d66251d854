"""Records in Arrow batches: shared by parquet, Arrow files, data sets and data frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from coldpress.data.rows import RowReader
from coldpress.data.source import File
from coldpress.errors import SourceError
from coldpress.types import Failed, Item

BATCH_ROWS = {"text": 1024, "image": 64}
"""Rows turned into Python values at a time: images may be megabytes each."""

_BINARY: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
_SCALARS: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
    pa.types.is_duration,
)


def resolve(file: File, schema: pa.Schema) -> RowReader:
    """Match what the user asked for with the columns of a table.

    Raises
    ------
    SourceError
        If a column is missing, the content column is in doubt, or its type cannot hold content.
    """
    try:
        names = schema.names
    except UnicodeDecodeError as error:
        raise SourceError(f"{file.location}: a column name is not UTF-8: {error}") from error
    scalars = [field.name for field in schema if _is_scalar(_value_type(field.type))]
    rows = RowReader.resolve(file, names, scalars)
    _check_type(rows, schema.field(rows.content).type)
    return rows


def items(batches: Iterable[pa.RecordBatch], rows: RowReader, begin: int, start: int) -> Iterator[Item]:
    """Items from row `start` on, of batches that begin with row `begin`."""
    size = BATCH_ROWS[rows.file.modality]
    for batch in batches:
        skipped = min(max(start - begin, 0), batch.num_rows)
        for first in range(skipped, batch.num_rows, size):
            columns = {name: _values(batch.column(name).slice(first, size)) for name in rows.used}
            for offset, values in enumerate(zip(*columns.values(), strict=True)):
                yield rows.item(begin + first + offset + 1, dict(zip(columns, values, strict=True)))
        begin += batch.num_rows


def is_string(value_type: pa.DataType) -> bool:
    """Whether it holds text, in any of Arrow's layouts."""
    return pa.types.is_string(value_type) or pa.types.is_large_string(value_type) or pa.types.is_string_view(value_type)


def _values(column: pa.Array[Any]) -> list[Any]:
    """Python values; one string that is not UTF-8 costs its row and not the batch."""
    try:
        values: list[Any] = column.to_pylist()
    except (UnicodeDecodeError, ValueError):  # ValueError: a time with nanoseconds, which Python does not have
        values = [_value(scalar) for scalar in column]
    return values


def _value(scalar: pa.Scalar[Any]) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return Failed(f"not UTF-8: {error}")
    except ValueError:
        return str(scalar)


def _value_type(found: pa.DataType) -> pa.DataType:
    return found.value_type if isinstance(found, pa.DictionaryType) else found


def _is_scalar(value_type: pa.DataType) -> bool:
    return is_string(value_type) or any(test(value_type) for test in _SCALARS)


def _check_type(rows: RowReader, found: pa.DataType) -> None:
    value_type = _value_type(found)
    fits = is_string(value_type) or any(test(value_type) for test in _BINARY)
    if rows.file.modality == "image" and isinstance(value_type, pa.StructType):
        fits = any(value_type.get_field_index(name) >= 0 for name in ("bytes", "path"))
    if not fits:
        expected = "string" if rows.file.modality == "text" else "binary, string or struct<bytes, path>"
        raise SourceError(
            f"{rows.file.location}: column '{rows.content}' has type {found}, expected {expected}; "
            f"name another with --{rows.file.modality}-column"
        )
