"""Changes in place: rows are appended and marked as removed; compaction writes what is left into an empty index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.index.build import make_retrievable
from coldpress.index.contents import Contents
from coldpress.index.rows import joined, rows_of_store, rows_of_table, rows_with
from coldpress.index.saving import in_memory
from coldpress.index.signs import SignIndex, empty_signs
from coldpress.index.space import space_of
from coldpress.index.vectors import Rows, prepare, prepared_blocks
from coldpress.store.blocks import block_rows

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

COMPACT_ABOVE = 0.3  # of the rows removed: searches read them all the same
REBUILD_ABOVE = 2.5  # times the effort that the index was built with


def add(contents: Contents, faiss: Any, store: EmbeddingStore) -> int:
    """Append the rows of a store whose keys are not there yet; all of them or none."""
    _check_same_space(contents, store)
    live = rows_with(contents.rows, store.keys.to_arrow())
    live = live[~contents.removed[live]]
    if live.size:
        key = contents.rows.keys[int(live[0])].as_py()
        raise ColdpressError(f"{live.size} keys are in the index already, {key!r} among them: upsert the store instead")
    _append(contents, faiss, store)
    return len(store)


def upsert(contents: Contents, faiss: Any, store: EmbeddingStore) -> int:
    """Append the rows of a store, removing those that had their keys."""
    _check_same_space(contents, store)
    old = rows_with(contents.rows, store.keys.to_arrow())
    old = old[~contents.removed[old]]
    _append(contents, faiss, store)
    mark_removed(contents, old)
    return int(old.size)


def remove(contents: Contents, keys: Sequence[str]) -> int:
    """Mark the rows with these keys as removed."""
    rows = rows_with(contents.rows, list(keys))
    rows = rows[~contents.removed[rows]]
    mark_removed(contents, rows)
    return int(rows.size)


def mark_removed(contents: Contents, rows: Rows) -> None:
    """These rows are found no more."""
    if rows.size:
        removed = contents.removed.copy()
        removed[rows] = True
        contents.removed = removed
        contents.changed("removed.npy")


def compact(contents: Contents, faiss: Any) -> None:
    """Drop what is removed."""
    if not contents.removed.any():
        return
    live = np.flatnonzero(~contents.removed)
    fresh = empty_like(contents, faiss)
    _copy(contents, live, fresh)
    make_retrievable(faiss, fresh)
    contents.rows = rows_of_table(contents.rows.table().take(pa.array(live, pa.int64())))
    contents.index, contents.removed, contents.mapped = fresh, np.zeros(len(live), np.bool_), False
    contents.changed("index.faiss", "rows.parquet", "removed.npy")


def merge(parts: Sequence[Contents], faiss: Any) -> Contents:
    """The rows of all parts in an index like the first."""
    if not parts:
        raise ColdpressError("there is no index to merge, expected at least one")
    first = parts[0]
    for part in parts[1:]:
        _check_parts(first, part)
    tables = [rows_of_table(part.rows.table().filter(pa.array(~part.removed))) for part in parts]
    rows = joined(tables)
    if len(rows.keys) > pc.count_distinct(rows.keys).as_py():
        raise ColdpressError("the indices to merge share keys, expected each key once: remove them from one")
    index = empty_like(first, faiss)
    for part in parts:
        _copy(part, np.flatnonzero(~part.removed), index)
    make_retrievable(faiss, index)
    return Contents(
        index=index,
        rows=rows,
        space=first.space,
        kind=first.kind,
        settings=first.settings,
        setting=first.setting,
        certificate=first.certificate,
        stale=True,
        trained=first.trained,
        removed=np.zeros(len(rows), np.bool_),
    )


def advice(contents: Contents) -> str | None:
    """What would do an index good, if anything."""
    certificate, removed, rows = contents.certificate, int(contents.removed.sum()), len(contents.removed)
    again = "build it again from a store of all rows"
    if not certificate.reached:
        return (
            f"recall@10 is {certificate.recall_at_10:.3f}, below the {certificate.target} that was asked for, and "
            f"searching harder does not help: {again}, with more memory or a lower recall"
        )
    built_with = contents.settings.get("nprobe") or contents.settings.get("ef_search") or contents.setting.effort
    if contents.setting.effort > REBUILD_ABOVE * built_with:
        times = f"{contents.setting.effort / built_with:.0f} times as many"
        return f"rows have come that the index was not trained for: searches look at {times} lists or nodes: {again}"
    if removed > COMPACT_ABOVE * rows:
        return f"{removed:,} of {rows:,} rows are removed but still read by searches: compact the index"
    return None


def empty_like(contents: Contents, faiss: Any) -> Any:
    """An index with the same training and no rows."""
    if isinstance(contents.index, SignIndex):
        return empty_signs(faiss, contents.index.d)
    if contents.trained is not None:
        return faiss.deserialize_index(contents.trained)
    return faiss.index_factory(contents.index.d, contents.settings["factory"], faiss.METRIC_INNER_PRODUCT)


def _append(contents: Contents, faiss: Any, store: EmbeddingStore) -> None:
    """Check every row before the first is added."""
    output, metric = contents.space.output, contents.space.metric
    rows, index = rows_of_store(store), None
    joined_rows = joined([contents.rows, rows])
    if not isinstance(contents.index, SignIndex):
        matrix = store.output(output)
        for _ in prepared_blocks(matrix, metric, store.keys):
            pass
        index = in_memory(contents, faiss)
        for _, block in prepared_blocks(matrix, metric, store.keys):
            index.add(block)
    else:
        index, bits = contents.index, store.bits(output)
        for start in range(0, len(store), block_rows(index.d)):
            index.add_bits(np.ascontiguousarray(bits[start : start + block_rows(index.d)]))
    contents.index, contents.mapped, contents.rows = index, False, joined_rows
    contents.removed = np.concatenate([contents.removed, np.zeros(len(store), np.bool_)])
    contents.changed("index.faiss", "rows.parquet", "removed.npy")


def _copy(part: Contents, rows: Rows, index: Any) -> None:
    for start in range(0, len(rows), block_rows(index.d)):
        block = rows[start : start + block_rows(index.d)]
        # what is kept in few bits no longer has exactly the unit length of what was added
        index.add(prepare(part.vectors(block), part.space.metric, lambda row: f"row {row}"))


def _check_same_space(contents: Contents, store: EmbeddingStore) -> None:
    name = contents.space.output
    if name not in store.outputs:
        raise ColdpressError(f"the store has no output {name!r}, of which the index is: embed with --output {name}")
    theirs = space_of(store, name, contents.space.metric).fingerprint
    _refuse_other(contents, theirs.digest, contents.space.fingerprint.diff(theirs))


def _check_parts(first: Contents, part: Contents) -> None:
    _refuse_other(first, part.space.fingerprint.digest, first.space.fingerprint.diff(part.space.fingerprint))
    mine, theirs = ((c.space.output, c.space.metric, c.index.d) for c in (first, part))
    if mine != theirs or isinstance(first.index, SignIndex) != isinstance(part.index, SignIndex):
        raise ColdpressError(f"indices to merge have output, metric and width {theirs}, expected {mine} as the first")


def _refuse_other(contents: Contents, digest: str, differences: Sequence[str]) -> None:
    """Rows of one index are all of the same making; queries may differ more, see `Space.check`."""
    if digest != contents.space.fingerprint.digest:
        raise FingerprintMismatch(
            f"the index and the rows to add come from different spaces (index != rows: {'; '.join(differences)}): "
            f"embed with {contents.space.model} and the same settings"
        )
