"""A Ray dataset as a source: its rows in their order, streamed block by block to the process that reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from coldpress.data import tables
from coldpress.data.frames import InMemory, TableSource
from coldpress.data.source import Columns
from coldpress.errors import SourceError
from coldpress.types import Modality

_BATCH_ROWS = 1024


def is_ray_dataset(value: Any) -> bool:
    """Whether it is a ``ray.data.Dataset``, told without importing Ray."""
    return any(f"{base.__module__}.{base.__name__}" == "ray.data.dataset.Dataset" for base in type(value).__mro__)


def open_ray_dataset(dataset: Any, modality: Modality, columns: Columns) -> TableSource:
    """Open a dataset; keys are row numbers unless `columns` names a key column.

    A run is resumed by number, so the blocks are read in their order, whatever the context says.

    Raises
    ------
    SourceError
        If the columns to read are in doubt, or it has no columns of Arrow types.
    """
    file = InMemory("Ray dataset", "", modality, columns)
    schema = getattr(dataset.schema(), "base_schema", None)
    if not isinstance(schema, pa.Schema):
        raise SourceError(f"the Ray dataset has the schema {schema!r}, expected Arrow columns; read or map it to those")
    dataset.context.execution_options.preserve_order = True

    def batches(start: int) -> Iterator[pa.RecordBatch]:
        for table in dataset.iter_batches(batch_size=_BATCH_ROWS, batch_format="pyarrow"):
            if table.num_rows > start:
                yield from table.slice(start).to_batches()
            start = max(start - table.num_rows, 0)

    return TableSource(tables.resolve(file, schema), int(dataset.count()), batches)
