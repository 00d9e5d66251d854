"""Hugging Face ``datasets``: objects, and directories written by ``save_to_disk``. The package itself is not needed.

Rows are taken as the Arrow data they are stored as: images stay encoded, and a class label is its integer.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from coldpress.data import location as place
from coldpress.data import tables
from coldpress.data.arrow import open_files
from coldpress.data.frames import InMemory, TableSource
from coldpress.data.source import Columns, File, Format, Source
from coldpress.errors import SourceError
from coldpress.types import Modality

logger = logging.getLogger(__name__)


def open_dataset(value: Any, modality: Modality, columns: Columns) -> Source | None:
    """Open a ``Dataset`` or an ``IterableDataset``, told by their attributes; None for anything else.

    Raises
    ------
    SourceError
        If it is a dictionary of splits, or if the columns to read are in doubt.
    """
    if isinstance(value, Mapping) and value and all(_is_dataset(split) for split in value.values()):
        raise SourceError(f"got a dictionary of the splits {', '.join(map(str, value))}; give one, as in data['train']")
    if not _is_dataset(value):
        return None
    if getattr(value, "format", None) and value.format["type"] == "custom":
        logger.warning("the transform of the dataset is not applied: coldpress reads its stored rows")
    file = InMemory(_name(value), "", modality, columns)
    arrow = value.with_format("arrow")
    if value.features is not None:
        schema = value.features.arrow_schema
    else:
        first = next(iter(arrow.iter(1)), None)
        if first is None:
            raise SourceError(f"{file.location}: is empty, and does not say which columns it has")
        schema = first.schema
    rows = tables.resolve(file, schema)
    size, used = tables.BATCH_ROWS[modality], rows.used

    def batches(start: int) -> Iterator[pa.RecordBatch]:
        if hasattr(arrow, "__len__"):
            for first in range(start, len(arrow), size):
                yield from arrow[first : first + size].select(used).to_batches()
            return
        for table in arrow.iter(size):
            if missing := set(used) - set(table.column_names):
                raise SourceError(f"{file.location}: a batch of rows has no column '{min(missing)}'")
            yield from table.slice(start).select(used).to_batches()
            start = max(start - len(table), 0)

    return TableSource(rows, len(value) if hasattr(value, "__len__") else None, batches)


def _is_dataset(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("features", "column_names", "with_format", "iter"))


def _name(dataset: Any) -> str:
    parts = (getattr(dataset.info, "dataset_name", None), dataset.split)
    return " ".join(["dataset", *(str(part) for part in parts if part is not None)])


def _open(file: File) -> Source:
    folder = file.location
    if place.kind(place.join(folder, "dataset_dict.json")) == "file":
        splits = _read(folder, "dataset_dict.json").get("splits") or ["(none)"]
        raise SourceError(f"{folder}: holds the splits {', '.join(splits)}; name one or more: {folder}/{splits[0]}")
    state = _read(folder, "state.json")
    if state.get("_indices_data_files"):
        raise SourceError(f"{folder}: was saved with an index over its rows; save it again by datasets 2 or later")
    names = [entry.get("filename") for entry in state.get("_data_files", [])]
    if not names or not all(isinstance(name, str) and "/" not in name for name in names):
        raise SourceError(f"{folder}/state.json: data files are {names}, expected names of files beside it")
    return open_files(file, tuple(place.join(folder, name) for name in names))


def _read(folder: str, name: str) -> dict[str, Any]:
    location = place.join(folder, name)
    try:
        with place.open_binary(location) as stream:
            found = json.loads(stream.read())
    except ValueError as error:
        raise SourceError(f"{location}: not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise SourceError(f"{location}: holds a JSON {type(found).__name__}, expected an object")
    return found


FORMAT = Format("Hugging Face dataset directory", (), _open, markers=("state.json", "dataset_dict.json"))
