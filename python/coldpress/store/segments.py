"""Segments: shards in blocks, one immutable parquet file a block.

How n shards are cut into blocks follows from n alone: as many of the largest size as there are, then of the next one.
So a shard is written into a segment at most three times, a manifest lists at most 63 of each size but the largest, and
a run that is killed and repeated ends with the same files.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from coldpress.errors import StoreError
from coldpress.store.files import sync_file, write_atomically
from coldpress.store.names import shard_files
from coldpress.store.root import Root
from coldpress.store.shards import Counts, Digests, Segment, Shards, StoredFile, Totals, counts_of
from coldpress.store.tables import read_table

LEVELS = (1 << 20, 1 << 14, 1 << 8)
"""Shards of a block. With 255 in the manifest itself, that is 130 KB: written anew in a millisecond a commit."""

DIRECTORY = "shards"
_COUNTS = ("inputs", "rows", "failed", "duplicates", "generation")


class SegmentReader:
    """Reads the segments of a store. What files there are is read when it is asked for, and kept for one segment."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._last: tuple[str, tuple[npt.NDArray[np.int64], Digests]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return SegmentReader, (self._root,)

    def counts(self, segment: Segment) -> Counts:
        """(n, 5): what its shards hold."""
        table = read_table(self._root, segment.name, _COUNTS)
        counts = np.stack([table.column(name).to_numpy() for name in _COUNTS], axis=1).astype(np.int64)
        if len(counts) != segment.count or (counts[:, 0] != counts[:, 1] + counts[:, 2]).any():
            raise StoreError(f"{self._root}/{segment.name}: damaged, it does not add up; restore it, or embed again")
        return counts

    def files(self, segment: Segment) -> tuple[npt.NDArray[np.int64], Digests]:
        """Sizes (n, F) and SHA-256 (n, F) of the files of its shards."""
        if self._last is None or self._last[0] != segment.name:
            table = read_table(self._root, segment.name).combine_chunks()
            width = (table.num_columns - len(_COUNTS)) // 2
            sizes = np.stack([table.column(f"size_{k}").to_numpy() for k in range(width)], axis=1)
            digests = np.stack([_digests(table.column(f"sha256_{k}")) for k in range(width)], axis=1)
            self._last = segment.name, (sizes, digests)
        return self._last[1]


def sealed(root: Root, shards: Shards) -> Shards:
    """The same shards with every whole block in a segment; new ones are written, for a manifest that is to come."""
    have = {(segment.first, segment.count): segment for segment in shards.segments}
    stale = {segment for segment in shards.segments if any(_holds(segment, number) for number in shards.changed)}
    wanted = list(blocks(len(shards)))
    if wanted == list(have) and not stale:
        return shards
    reader, segments = SegmentReader(root), []
    for first, count in wanted:
        found = have.get((first, count))
        if found is None or found in stale:
            found = write_segment(root, *_table(shards, first, count), first, count)
        segments.append(found)
    end = sum(count for _, count in wanted)
    kept = shards.sealed.copy()
    for number, shard in shards.changed.items():
        kept[number] = counts_of(shard)
    moved = np.array([counts_of(shard) for shard in shards.tail[: end - len(kept)]], np.int64).reshape(-1, 5)
    return replace(
        shards,
        segments=tuple(segments),
        sealed=np.concatenate([kept, moved]),
        tail=shards.tail[end - len(kept) :],
        listed=reader,
        changed={},
    )


def blocks(count: int) -> Iterator[tuple[int, int]]:
    """(first, count) of the blocks that so many shards are cut into; what is left is in the manifest."""
    first = 0
    for size in LEVELS:
        while count - first >= size:
            yield first, size
            first += size


def _holds(segment: Segment, number: int) -> bool:
    return segment.first <= number < segment.first + segment.count


def write_segment(root: Root, table: pa.Table, totals: Totals, first: int, count: int) -> Segment:
    """Write the segment of these shards; it counts for nothing before a manifest lists it."""
    content = io.BytesIO()
    pq.write_table(table, content, row_group_size=1 << 16, version="2.6", compression="zstd", use_dictionary=False)
    stored = StoredFile(content.tell(), hashlib.sha256(content.getbuffer()).hexdigest())
    segment = Segment(first, count, totals, stored)
    path = root.directory / segment.name
    if not path.parent.is_dir():
        path.parent.mkdir()
        sync_file(path.parent.parent)
    write_atomically(path, content.getvalue())
    root.publish([segment.name])
    return segment


def _table(shards: Shards, first: int, count: int) -> tuple[pa.Table, Totals]:
    """Shards as columns, in pieces: whole segments as they are, the rest one by one."""
    pieces, totals, number = [], Totals(), first
    for segment in shards.segments:
        inside = first <= segment.first and segment.first + segment.count <= first + count
        if inside and shards.listed is not None:
            counts = shards.sealed[segment.first : segment.first + segment.count].copy()
            sizes, digests = shards.listed.files(segment)
            totals = totals.plus(segment.totals)
            pieces.append(_changed(shards, segment, counts, sizes.copy(), digests.copy()))
            number = segment.first + segment.count
    for changed in shards.changed:
        if first <= changed < number:
            before = replace(shards, changed={})[changed]
            totals = totals.plus(Totals.of(before), -1).plus(Totals.of(shards.changed[changed]))
    rest = shards[number : first + count]
    for shard in rest:
        totals = totals.plus(Totals.of(shard))
    if rest:
        names = [shard_files(shards.outputs, shards.dtype, number + i, counts_of(s)[4]) for i, s in enumerate(rest)]
        files = [[shard.files[name] for name in own] for shard, own in zip(rest, names, strict=True)]
        counts = np.array([counts_of(shard) for shard in rest], np.int64)
        sizes = np.array([[file.size for file in own] for own in files], np.int64)
        hashes: Digests = np.array([[np.void(bytes.fromhex(file.sha256)) for file in own] for own in files], "V32")
        pieces.append(shard_columns(counts, sizes, hashes))
    return pa.concat_tables(pieces), totals


def _changed(
    shards: Shards, segment: Segment, counts: Counts, sizes: npt.NDArray[np.int64], digests: Digests
) -> pa.Table:
    """A segment with what has changed in it; only outcomes do, the last file."""
    for number, shard in shards.changed.items():
        if _holds(segment, number):
            place, outcomes = number - segment.first, shard.files[shard.outcomes]
            counts[place], sizes[place, -1] = counts_of(shard), outcomes.size
            digests[place, -1] = np.void(bytes.fromhex(outcomes.sha256))
    return shard_columns(counts, sizes, digests)


def shard_columns(counts: Counts, sizes: npt.NDArray[np.int64], digests: Digests) -> pa.Table:
    """Shards as the table of a segment."""
    columns: dict[str, Any] = {name: pa.array(counts[:, k]) for k, name in enumerate(_COUNTS)}
    for k in range(sizes.shape[1]):
        columns[f"size_{k}"] = pa.array(sizes[:, k])
        data = pa.py_buffer(np.ascontiguousarray(digests[:, k]).tobytes())
        columns[f"sha256_{k}"] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(digests), [None, data])
    return pa.table(columns)


def _digests(column: pa.ChunkedArray[Any]) -> Digests:
    whole = pa.concat_arrays(column.chunks)
    data = whole.buffers()[1]
    assert data is not None
    digests: Digests = np.frombuffer(memoryview(data), np.dtype("V32"), len(whole), 32 * whole.offset)
    return digests
