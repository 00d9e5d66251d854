"""The columns of metadata and outcomes, the same in every shard of a store.

The first shard with a row fixes the metadata columns and their types. Later shards follow: a column that is missing
is null, a value that does not fit its column's type becomes null, an unknown column is dropped; the last two are
logged, once per column. A run never stops for a label after days of computing, and the labels can always be
joined again by key.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coldpress.errors import StoreError
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
RESERVED = frozenset(name for name, _ in (*_COMMON, *_TEXT))
_UNIQUE = {"key", "source", "content_hash"}  # nothing to gain from a dictionary
_ROW_GROUP = 65_536


@dataclass
class MetadataColumns:
    """The metadata of the rows of one shard, without their contents."""

    values: dict[str, list[Scalar]] = field(default_factory=lambda: {name: [] for name, _ in (*_COMMON, *_TEXT)})
    extra: list[Mapping[str, Scalar]] = field(default_factory=list)

    def append(self, item: Item, source: ModelInput | KnownInput) -> None:
        """Add the row of one item."""
        row = (item.key, item.source, source.content_hash)
        tokens = (source.num_tokens, source.truncated) if isinstance(source, TextInput) else (None, None)
        for column, value in zip(self.values.values(), (*row, *tokens), strict=True):
            column.append(value)
        self.extra.append(item.metadata)

    def infer(self) -> ColumnTypes:
        """Names and types that hold these rows."""
        is_text = any(value is not None for value in self.values["num_tokens"])
        names = dict.fromkeys(name for row in self.extra for name in row)
        extra = ((name, _infer(row.get(name) for row in self.extra)) for name in names)
        return (*_COMMON, *(_TEXT if is_text else ()), *extra)

    def table(self, types: ColumnTypes, warned: set[str]) -> pa.Table:
        """These rows as a table of the given columns; `warned` remembers the columns already complained about."""
        known = {name for name, _ in types} | RESERVED
        for name in dict.fromkeys(name for row in self.extra for name in row):
            if name not in known:
                _warn(warned, name, "was not there in the first shard of the store: it is left out")
        columns = [
            to_arrow(self.values[name] if name in self.values else [row.get(name) for row in self.extra], kind)
            for name, kind in types
        ]
        for (name, kind), (_, lost) in zip(types, columns, strict=True):
            if lost:
                _warn(warned, name, f"is {kind} in this store, and {lost} values of this shard are not: stored as null")
        return pa.table([array for array, _ in columns], names=[name for name, _ in types])


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
        return str(value).encode("utf-8", "backslashreplace").decode()
    plain = value.item() if isinstance(value, np.generic) else value
    try:
        return pa.scalar(plain, target).as_py()
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None


def _warn(warned: set[str], name: str, what: str) -> None:
    if name not in warned:
        warned.add(name)
        logger.warning("metadata column '%s' %s", name, what)
