"""One shard while it is being written: vectors go straight to disk, the rest is small."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import IO

import pyarrow as pa

from coldpress.store.arrays import ArrayWriter
from coldpress.store.files import sha256, sync_file, temporary
from coldpress.store.manifest import Manifest, shard_files
from coldpress.store.names import metadata_file, next_outcomes_file, outcomes_file
from coldpress.store.root import Root
from coldpress.store.schema import OUTCOME_TYPES, ColumnTypes, GrowingTable, MetadataColumns, base_types, write_parquet
from coldpress.store.shards import Shard, StoredFile
from coldpress.store.tables import read_table
from coldpress.types import Failed, Results


class ShardWriter:
    """The next shard of a store, invisible until `commit` has renamed its files and the manifest lists them."""

    def __init__(self, root: Root, manifest: Manifest) -> None:
        self._root, self._directory, self._number = root, root.directory, len(manifest.shards)
        self._names = shard_files(manifest, self._number)
        self._metadata = MetadataColumns()
        self._outcomes = GrowingTable(OUTCOME_TYPES)
        self._rows = 0
        self._arrays = {o.name: ArrayWriter(root, manifest, o, self._number) for o in manifest.outputs}

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
        encoded = [(array, array.encode(results.vectors[n], results.copies)) for n, array in self._arrays.items()]
        for array, stored in encoded:
            array.write(*stored)
        rows = []
        for item, source, outcome in zip(results.items, results.inputs, results.outcomes, strict=True):
            if outcome.status != "failed":
                if isinstance(source, Failed):
                    raise ValueError(f"'{item.key}' has status {outcome.status} but no model input: {source.reason}")
                rows.append((item, source))
        self._metadata.append(rows)
        self._rows += len(rows)
        self._outcomes.append({name: [getattr(o, name) for o in results.outcomes] for name, _ in OUTCOME_TYPES})

    def commit(self, types: ColumnTypes | None, warned: set[str]) -> tuple[Shard, ColumnTypes | None]:
        """Make the files durable and give them their names; the caller then lists them in the manifest."""
        if types is None and self._rows:
            types = self._metadata.infer()
        for array in self._arrays.values():
            array.finish()
        self._write_table(metadata_file(self._number), self._metadata.table(types or base_types(), warned))
        self._write_table(outcomes_file(self._number), self._outcomes.table())
        files = {}
        for name in self._names:
            beside = temporary(self._directory / name)
            files[name] = StoredFile(beside.stat().st_size, sha256(beside))
        for name in files:
            path = self._directory / name
            temporary(path).replace(path)
        for directory in {(self._directory / name).parent for name in files}:
            sync_file(directory)
        self._root.publish(files)
        count = self._outcomes.column("status").to_pylist().count
        return Shard(self.inputs, self._rows, count("failed"), count("duplicate"), files), types

    def discard(self) -> None:
        """Remove what has been written; called when a run ends in the middle of a shard."""
        for array in self._arrays.values():
            array.close()
        for name in self._names:
            with suppress(OSError):
                temporary(self._directory / name).unlink()

    def _write_table(self, name: str, table: pa.Table) -> None:
        with temporary(self._directory / name).open("wb") as file:
            write_parquet(table, file)
            _sync_and_close(file)


def without_failures(root: Root, shard: Shard, number: int, keys: Mapping[str, int]) -> Shard:
    """The same shard after so many inputs of these keys, which had failed in it, have found a place elsewhere.

    The new outcomes get a name of their own: until the manifest lists it, the store is as it was.
    """
    outcomes = read_table(root, shard.outcomes)
    left, gone = dict(keys), []
    for key, status in zip(outcomes.column("key").to_pylist(), outcomes.column("status").to_pylist(), strict=True):
        gone.append(status == "failed" and left.get(str(key), 0) > 0)
        if gone[-1]:
            left[str(key)] -= 1
    name = next_outcomes_file(shard.outcomes, number)
    path = root.directory / name
    with temporary(path).open("wb") as file:
        write_parquet(outcomes.filter(pa.array([not moved for moved in gone])), file)
        _sync_and_close(file)
    stored = StoredFile(temporary(path).stat().st_size, sha256(temporary(path)))
    temporary(path).replace(path)
    sync_file(path.parent)
    root.publish([name])
    files = {kept: file for kept, file in shard.files.items() if kept != shard.outcomes} | {name: stored}
    return replace(shard, inputs=shard.inputs - sum(gone), failed=shard.failed - sum(gone), files=files)


def _sync_and_close(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
