"""The columns of metadata and outcomes, the same in every shard of a store.

The first shard with a row fixes the metadata columns and their types. Later shards follow: a column that is missing
is null, a value that does not fit its column's type becomes null, an unknown column is dropped; the last two are
logged, once per column. A run never stops for a label after days of computing, and the labels can always be
joined again by key.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coldpress.errors import StoreError
from coldpress.store.digests import as_stored
from coldpress.types import Item, KnownInput, ModelInput, Scalar, TextInput

logger = logging.getLogger(__name__)

ColumnTypes = tuple[tuple[str, str], ...]
_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "double": pa.float64(),
    "bool": pa.bool_(),
}
_COMMON: ColumnTypes = (("key", "string"), ("source", "string"), ("content_hash", "string"))
_TEXT: ColumnTypes = (("num_tokens", "int32"), ("truncated", "bool"))
OUTCOME_TYPES: ColumnTypes = (("key", "string"), ("status", "string"), ("reason", "string"))
RESERVED = frozenset(name for name, _ in (*_COMMON, *_TEXT))
_UNIQUE = {"key", "source", "content_hash"}  # nothing to gain from a dictionary
_ROW_GROUP = 65_536


class GrowingTable:
    """A table of fixed columns that grows by chunks, in Arrow's memory: a tenth of what Python's strings take."""

    def __init__(self, types: ColumnTypes) -> None:
        self.types = dict(types)
        self._chunks: dict[str, list[pa.Array[Any]]] = {name: [to_arrow([], kind)[0]] for name, kind in types}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def append(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add a chunk of rows, given by column."""
        for name, values in columns.items():
            self._chunks[name].append(to_arrow(values, self.types[name])[0])
        self._rows += len(next(iter(columns.values())))

    def column(self, name: str) -> pa.Array[Any]:
        """All values of a column in one piece: how a table is cut into chunks would show in its parquet file."""
        whole = pa.concat_arrays(self._chunks[name])
        self._chunks[name] = [whole]
        return whole

    def table(self) -> pa.Table:
        """All columns."""
        return pa.table({name: self.column(name) for name in self.types})


class MetadataColumns:
    """The metadata of the rows of one shard, without their contents."""

    def __init__(self) -> None:
        self._own = GrowingTable((*_COMMON, *_TEXT))
        self._extra: dict[str, list[Scalar]] = {}

    def append(self, rows: Sequence[tuple[Item, ModelInput | KnownInput]]) -> None:
        """Add the rows of some items."""
        texts = [source if isinstance(source, TextInput) else None for _, source in rows]
        before = len(self._own)
        self._own.append(
            {
                "key": [item.key for item, _ in rows],
                "source": [item.source for item, _ in rows],
                "content_hash": [source.content_hash for _, source in rows],
                "num_tokens": [None if text is None else text.num_tokens for text in texts],
                "truncated": [None if text is None else text.truncated for text in texts],
            }
        )
        for name in dict.fromkeys(name for item, _ in rows for name in item.metadata):
            values = self._extra.setdefault(name, [])
            values += [None] * (before - len(values))
            values += [item.metadata.get(name) for item, _ in rows]

    def infer(self) -> ColumnTypes:
        """Names and types that hold these rows."""
        is_text = self._own.column("num_tokens").null_count < len(self._own)
        extra = ((name, _infer(values)) for name, values in self._extra.items())
        return (*_COMMON, *(_TEXT if is_text else ()), *extra)

    def table(self, types: ColumnTypes, warned: set[str]) -> pa.Table:
        """These rows as a table of the given columns; `warned` remembers the columns already complained about."""
        known = {name for name, _ in types} | RESERVED
        for name in self._extra.keys() - known:
            _warn(warned, name, "was not there in the first shard of the store: it is left out")
        columns = {}
        for name, kind in types:
            if name in RESERVED:
                columns[name] = self._own.column(name)
                continue
            values = self._extra.get(name, [])
            columns[name], lost = to_arrow([*values, *[None] * (len(self._own) - len(values))], kind)
            if lost:
                _warn(warned, name, f"is {kind} in this store, and {lost} values of this shard are not: stored as null")
        return pa.table(columns)


def check_metadata(items: Sequence[Item]) -> None:
    """Refuse metadata under the name of a column that the store writes itself."""
    for metadata in {id(item.metadata): item.metadata for item in items}.values():
        if not RESERVED.isdisjoint(metadata):
            name = sorted(RESERVED.intersection(metadata))[0]
            raise StoreError(f"metadata column '{name}' has the name of a column of the store itself; rename it")


def base_types() -> ColumnTypes:
    """The columns of a shard without rows, before any row has fixed the schema."""
    return _COMMON


def to_arrow(values: Sequence[Any], kind: str) -> tuple[pa.Array[Any], int]:
    r"""Values as an Arrow array, and how many did not fit and became null. Lone surrogates are written ``\udXXX``."""
    target = _TYPES[kind]
    try:
        return pa.array(values, target), 0
    except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError, ValueError):
        pass
    fitted = [_fit(value, target) for value in values]
    lost = sum(a is not None and b is None for a, b in zip(values, fitted, strict=True))
    return pa.array(fitted, target), lost


def write_parquet(table: pa.Table, file: IO[bytes]) -> None:
    """Write with fixed settings: the same rows give the same bytes."""
    dictionary = [name for name in table.column_names if name not in _UNIQUE]
    pq.write_table(
        table,
        file,
        row_group_size=_ROW_GROUP,
        version="2.6",
        compression="zstd",
        compression_level=3,
        use_dictionary=dictionary or False,  # type: ignore[arg-type]  # the stubs lack the list of columns
    )


def _infer(values: Iterable[Scalar]) -> str:
    kinds = set()
    for value in values:
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, bool):
            kinds.add("bool")
        elif isinstance(plain, int):
            kinds.add("int64" if -(2**63) <= plain < 2**63 else "string")
        elif plain is not None:
            kinds.add("double" if isinstance(plain, float) else "string")
    if kinds == {"int64", "double"}:
        return "double"
    return kinds.pop() if len(kinds) == 1 else "string"


def _fit(value: Any, target: pa.DataType) -> Any:
    if value is None:
        return None
    if target == pa.string():
        return as_stored(str(value))
    plain = value.item() if isinstance(value, np.generic) else value
    try:
        return pa.scalar(plain, target).as_py()
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None


def _warn(warned: set[str], name: str, what: str) -> None:
    if name not in warned:
        warned.add(name)
        logger.warning("metadata column '%s' %s", name, what)
