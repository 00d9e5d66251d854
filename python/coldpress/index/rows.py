"""The key and the metadata of every row: keys in memory, metadata columns read when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from coldpress.errors import ColdpressError
from coldpress.index.vectors import Rows
from coldpress.store.keys import Keys

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

KEY = "key"
_LEFT_OUT = {"content_hash"}  # of no use to a search
_BATCH_ROWS = 65_536
FINDS_BEFORE_SORTING = 3

Tables = Callable[[Sequence[str]], Iterator[pa.Table]]
"""The rows in order, in pieces, with some of their columns."""


class RowTable:
    """Rows by number: row i is vector i of the index.

    Parameters
    ----------
    keys : array of large strings, one a row.
    columns : names of the metadata columns.
    read : the metadata, in pieces, from wherever it is.
    """

    def __init__(self, keys: pa.Array[Any], columns: Sequence[str], read: Tables) -> None:
        self.keys = keys
        self.columns = tuple(columns)
        self._read = read
        self._loaded: dict[str, Any] = {}
        self._finds = 0

    def __len__(self) -> int:
        return len(self.keys)

    def column(self, name: str) -> Any:
        """All values of a metadata column, or of the keys; kept once they are read.

        Raises
        ------
        ColdpressError
            If there is no such column.
        """
        if name == KEY:
            return pa.chunked_array([self.keys])
        if name not in self.columns:
            known = ", ".join((KEY, *self.columns))
            raise ColdpressError(f"the index has no metadata column {name!r}, expected one of: {known}")
        if name not in self._loaded:
            tables = [table.select([name]) for table in self._read([name]) if name in table.column_names]
            self._loaded[name] = pa.concat_tables(tables, promote_options="default").column(name)
        return self._loaded[name]

    def find(self, keys: Sequence[str]) -> list[int | None]:
        """The first row with each of these keys; None where there is none.

        The first calls look through all keys, which takes 3 ms a million of them; from then on they are sorted.
        """
        self._finds += 1
        if self._finds > FINDS_BEFORE_SORTING:
            return [self._sorted.find(key) for key in keys]
        found: dict[str, int] = {}
        for row in rows_with(self, list(keys))[::-1].tolist():
            found[self.keys[row].as_py()] = row
        return [found.get(key) for key in keys]

    def take(self, rows: Rows, columns: Sequence[str] | None = None) -> pa.Table:
        """Metadata of some rows, in that order."""
        names = self.columns if columns is None else columns
        places: pa.Array[Any] = pa.array(rows, pa.int64())
        return pa.table({KEY: self.keys.take(places)} | {name: self.column(name).take(places) for name in names})

    def choices(self, column: str, live: npt.NDArray[np.bool_], most: int) -> list[Any]:
        """The values of a column, the most frequent first, in rows of the mask `live`; none where they are too many.

        Read piece by piece, and no further than needed; of a million rows that takes 30 ms.
        """
        counts: Counter[Any] = Counter()
        done = 0
        for table in self._read([column]):
            kept = pa.array(live[done : done + len(table)])
            done += len(table)
            if column not in table.column_names:
                continue
            found: Any = pc.value_counts(table.column(column).filter(kept).drop_null())
            if len(found) > most:
                return []
            counts.update({one["values"]: one["counts"] for one in found.to_pylist()})
            if len(counts) > most:
                return []
        return [value for value, _ in counts.most_common()]

    def write(self, path: Path) -> None:
        """Save everything as parquet, piece by piece."""
        schema = pa.schema([(KEY, pa.large_string()), *((name, self._type(name)) for name in self.columns)])
        done = 0
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for table in self._read(self.columns) if self.columns else self._no_columns():
                if not len(table):
                    continue
                keys = self.keys.slice(done, len(table))
                done += len(table)
                columns = [keys, *(table.column(name).cast(self._type(name)) for name in self.columns)]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=_BATCH_ROWS)

    def table(self) -> pa.Table:
        """Everything, in memory."""
        return pa.table({KEY: self.keys} | {name: self.column(name) for name in self.columns})

    @cached_property
    def _sorted(self) -> Keys:
        return Keys(self.keys)

    @cached_property
    def _types(self) -> dict[str, Any]:
        first = next((table for table in self._read(self.columns) if len(table)), None)
        return {} if first is None else {field.name: field.type for field in first.schema}

    def _type(self, name: str) -> Any:
        return self._types.get(name, pa.string())

    def _no_columns(self) -> Iterator[pa.Table]:
        for start in range(0, len(self.keys), _BATCH_ROWS):
            yield pa.table({KEY: self.keys.slice(start, _BATCH_ROWS)})


def rows_of_store(store: EmbeddingStore) -> RowTable:
    """Of a store, whose metadata stays there until it is asked for."""
    first = next((table for table in store.iter_metadata() if len(table)), None)
    columns = [] if first is None else [name for name in first.column_names if name != KEY and name not in _LEFT_OUT]
    return RowTable(store.keys.to_arrow(), columns, store.iter_metadata)


def rows_of_file(path: Path) -> RowTable:
    """What `RowTable.write` has saved."""
    schema = pq.read_schema(path)
    keys = pq.read_table(path, columns=[KEY])[KEY].combine_chunks().cast(pa.large_string())
    if isinstance(keys, pa.ChunkedArray):
        keys = pa.concat_arrays(keys.chunks) if keys.num_chunks else pa.array([], pa.large_string())

    def read(columns: Sequence[str]) -> Iterator[pa.Table]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(columns)):
                yield pa.Table.from_batches([batch])

    return RowTable(keys, [name for name in schema.names if name != KEY], read)


def rows_of_table(table: pa.Table) -> RowTable:
    """Of a table in memory."""
    keys = table.column(KEY).cast(pa.large_string()).combine_chunks()
    if isinstance(keys, pa.ChunkedArray):
        keys = pa.concat_arrays(keys.chunks) if keys.num_chunks else pa.array([], pa.large_string())

    def read(columns: Sequence[str]) -> Iterator[pa.Table]:
        yield table.select(list(columns))

    return RowTable(keys, [name for name in table.column_names if name != KEY], read)


def joined(tables: Sequence[RowTable]) -> RowTable:
    """The rows of several, one below the other; a column that some of them lack is null there.

    Raises
    ------
    ColdpressError
        If a column holds, say, numbers in one and texts in another.
    """
    try:
        return rows_of_table(pa.concat_tables([part.table() for part in tables], promote_options="permissive"))
    except pa.ArrowException as error:
        raise ColdpressError(
            f"metadata columns of the same name hold different things ({error}): rename one"
        ) from error


def rows_with(table: RowTable, keys: Any) -> Rows:
    """All rows whose key is among `keys`."""
    found = pc.is_in(table.keys, value_set=pa.array(keys, pa.large_string()))
    return np.flatnonzero(found.to_numpy(zero_copy_only=False))
