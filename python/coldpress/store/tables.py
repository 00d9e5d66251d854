"""Committed parquet files of a store, opened one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from coldpress.errors import StoreError
from coldpress.store.root import Root


@contextmanager
def opened_table(root: Root, name: str) -> Iterator[pq.ParquetFile]:
    """One parquet file of a store; anything that prevents reading it is a `StoreError` with its name."""
    try:
        with pq.ParquetFile(root.fetch(name)) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{root}/{name}: cannot be read: {error}; restore it, or embed again") from error


def read_table(root: Root, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One parquet file of a store, or some of its columns."""
    with opened_table(root, name) as file:
        return file.read(columns=None if columns is None else list(columns))


def read_strings(root: Root, name: str, *columns: str) -> list[list[str]]:
    """Some columns of one parquet file, which hold strings."""
    table = read_table(root, name, columns)
    return [[str(value) for value in table.column(column).to_pylist()] for column in columns]
