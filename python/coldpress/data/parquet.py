"""Parquet files: texts, image bytes, image paths, or images as Hugging Face datasets store them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from coldpress.data import location as place
from coldpress.data import tables
from coldpress.data.rows import RowReader
from coldpress.data.source import File, Format, Source
from coldpress.errors import SourceError
from coldpress.types import Item


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
        if groups:
            yield from tables.items(self._batches(groups, begin), self.rows, begin, start)

    def _batches(self, groups: list[int], row: int) -> Iterator[pa.RecordBatch]:
        file = self.rows.file
        with place.open_binary(file.location) as stream:
            try:
                parquet = pq.ParquetFile(stream)
                for batch in parquet.iter_batches(
                    tables.BATCH_ROWS[file.modality], groups, self.rows.used, use_threads=False
                ):
                    yield batch
                    row += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                raise SourceError(f"{self.name}: damaged after row {row}: {error}") from error


def _open(file: File) -> Source:
    with place.open_binary(file.location) as stream:
        try:
            parquet = pq.ParquetFile(stream)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{file.location}: not a readable parquet file: {error}") from error
        rows = tables.resolve(file, parquet.schema_arrow)
        metadata = parquet.metadata
        return ParquetSource(rows, tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)))


FORMAT = Format("parquet", (".parquet", ".pq"), _open)
