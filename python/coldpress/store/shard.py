"""One shard while it is being written: vectors go straight to disk, the rest is small."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldpress.errors import StoreError
from coldpress.store import manifest as layout
from coldpress.store.files import NPY_HEADER_BYTES, npy_header, sha256, sync_file, temporary
from coldpress.store.matrix import all_shards
from coldpress.store.root import Root
from coldpress.store.schema import OUTCOME_TYPES, ColumnTypes, GrowingTable, MetadataColumns, base_types, write_parquet
from coldpress.store.tables import read_table
from coldpress.types import Failed, Results


class ShardWriter:
    """The next shard of a store, invisible until `commit` has renamed its files and the manifest lists them."""

    def __init__(self, root: Root, manifest: layout.Manifest) -> None:
        self._root, self._directory, self._number = root, root.directory, len(manifest.shards)
        self._outputs, self._dtype, self._first_row = manifest.outputs, manifest.dtype, manifest.rows
        self._committed = {output.name: all_shards(root, manifest, output) for output in self._outputs}
        self._metadata = MetadataColumns()
        self._outcomes = GrowingTable(OUTCOME_TYPES)
        self._rows = 0
        self._matrices: dict[str, IO[bytes]] = {}
        for output in self._outputs:
            file = temporary(self._directory / layout.matrix_file(output, self._number)).open("w+b")
            self._matrices[output.name] = file
            file.write(npy_header(0, output.dim, self._dtype))

    @property
    def inputs(self) -> int:
        """Inputs received so far."""
        return len(self._outcomes)

    @property
    def keys(self) -> list[str]:
        """The keys of those inputs."""
        return [str(key) for key in self._outcomes.column("key").to_pylist()]

    def append(self, results: Results) -> None:
        """Add consecutive results; nothing is added if a vector does not fit the stored dtype."""
        stored = {o.name: self._rows_of(o, results.copies, results.vectors[o.name]) for o in self._outputs}
        for name, matrix in stored.items():
            self._matrices[name].write(matrix.data)
        rows = []
        for item, source, outcome in zip(results.items, results.inputs, results.outcomes, strict=True):
            if outcome.status != "failed":
                if isinstance(source, Failed):
                    raise ValueError(f"'{item.key}' has status {outcome.status} but no model input: {source.reason}")
                rows.append((item, source))
        self._metadata.append(rows)
        self._rows += len(rows)
        self._outcomes.append({name: [getattr(o, name) for o in results.outcomes] for name, _ in OUTCOME_TYPES})

    def commit(self, types: ColumnTypes | None, warned: set[str]) -> tuple[layout.Shard, ColumnTypes | None]:
        """Make the files durable and give them their names; the caller then lists them in the manifest."""
        if types is None and self._rows:
            types = self._metadata.infer()
        for output in self._outputs:
            file = self._matrices[output.name]
            file.seek(0)
            file.write(npy_header(self._rows, output.dim, self._dtype))
            _sync_and_close(file)
        self._write_table(layout.metadata_file(self._number), self._metadata.table(types or base_types(), warned))
        self._write_table(layout.outcomes_file(self._number), self._outcomes.table())
        files = {}
        for name in layout.shard_files(self._outputs, self._number):
            beside = temporary(self._directory / name)
            files[name] = layout.StoredFile(beside.stat().st_size, sha256(beside))
        for name in files:
            path = self._directory / name
            temporary(path).replace(path)
        for directory in {(self._directory / name).parent for name in files}:
            sync_file(directory)
        self._root.publish(files)
        count = self._outcomes.column("status").to_pylist().count
        return layout.Shard(self.inputs, self._rows, count("failed"), count("duplicate"), files), types

    def _rows_of(
        self, output: layout.StoredOutput, copies: Sequence[int | None], vectors: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.generic]:
        """New vectors in the stored dtype, repeated ones byte for byte as the earlier row has them."""
        own = _cast(vectors, self._dtype)
        if len(own) == len(copies):
            return own
        rows = np.empty((len(copies), output.dim), own.dtype)
        rows[[i for i, copied in enumerate(copies) if copied is None]] = own
        for i, copied in enumerate(copies):
            if copied is not None:
                rows[i] = self._earlier_row(output, copied, rows)
        return rows

    def _earlier_row(
        self, output: layout.StoredOutput, row: int, chunk: npt.NDArray[np.generic]
    ) -> npt.NDArray[np.generic]:
        """A row of a committed shard, of this one's file, or of the chunk that is being added."""
        place = row - self._first_row
        if place < 0:
            return np.asarray(self._committed[output.name][row])
        if place >= self._rows:
            return np.asarray(chunk[place - self._rows])
        file = self._matrices[output.name]
        file.flush()
        size = output.dim * chunk.dtype.itemsize
        return np.frombuffer(os.pread(file.fileno(), size, NPY_HEADER_BYTES + place * size), chunk.dtype)

    def discard(self) -> None:
        """Remove what has been written; called when a run ends in the middle of a shard."""
        for file in self._matrices.values():
            with suppress(OSError):  # closing flushes, and the disk may be full
                file.close()
        for name in layout.shard_files(self._outputs, self._number):
            with suppress(OSError):
                temporary(self._directory / name).unlink()

    def _write_table(self, name: str, table: pa.Table) -> None:
        with temporary(self._directory / name).open("wb") as file:
            write_parquet(table, file)
            _sync_and_close(file)


def without_failures(root: Root, shard: layout.Shard, number: int, keys: Mapping[str, int]) -> layout.Shard:
    """The same shard after so many inputs of these keys, which had failed in it, have found a place elsewhere.

    The new outcomes get a name of their own: until the manifest lists it, the store is as it was.
    """
    outcomes = read_table(root, shard.outcomes)
    left, gone = dict(keys), []
    for key, status in zip(outcomes.column("key").to_pylist(), outcomes.column("status").to_pylist(), strict=True):
        gone.append(status == "failed" and left.get(str(key), 0) > 0)
        if gone[-1]:
            left[str(key)] -= 1
    name = layout.next_outcomes_file(shard.outcomes, number)
    path = root.directory / name
    with temporary(path).open("wb") as file:
        write_parquet(outcomes.filter(pa.array([not moved for moved in gone])), file)
        _sync_and_close(file)
    stored = layout.StoredFile(temporary(path).stat().st_size, sha256(temporary(path)))
    temporary(path).replace(path)
    sync_file(path.parent)
    root.publish([name])
    files = {kept: file for kept, file in shard.files.items() if kept != shard.outcomes} | {name: stored}
    return replace(shard, inputs=shard.inputs - sum(gone), failed=shard.failed - sum(gone), files=files)


def _cast(vectors: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.generic]:
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(vectors, dtype=np.dtype(dtype).newbyteorder("<"))
    if np.isfinite(stored).all():
        return stored
    if np.isfinite(vectors).all():
        raise StoreError(
            f"a vector holds {np.abs(vectors).max():.6g}, more than {dtype} can (65504); store with --dtype float32"
        )
    raise ValueError("vectors hold NaN or infinity; such items must be marked as failed before they reach the store")


def _sync_and_close(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
