"""One shard while it is being written: vectors go straight to disk, the rest is small."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldpress.errors import StoreError
from coldpress.store import manifest as layout
from coldpress.store.files import npy_header, sha256, sync_file, temporary
from coldpress.store.schema import ColumnTypes, MetadataColumns, base_types, to_arrow, write_parquet
from coldpress.types import Failed, Outcome, Results


class ShardWriter:
    """Shard `number` of a store, invisible until `commit` has renamed its files and the manifest lists them."""

    def __init__(self, root: Path, number: int, outputs: tuple[layout.StoredOutput, ...], dtype: str) -> None:
        self._root, self._number, self._outputs, self._dtype = root, number, outputs, dtype
        self._metadata = MetadataColumns()
        self._outcomes: list[Outcome] = []
        self._rows = 0
        self._matrices: dict[str, IO[bytes]] = {}
        for output in outputs:
            file = temporary(root / layout.matrix_file(output, number)).open("wb")
            self._matrices[output.name] = file
            file.write(npy_header(0, output.dim, dtype))

    @property
    def inputs(self) -> int:
        """Inputs received so far."""
        return len(self._outcomes)

    def append(self, results: Results) -> None:
        """Add consecutive results; nothing is added if a vector does not fit the stored dtype."""
        stored = {output.name: _cast(results.vectors[output.name], self._dtype) for output in self._outputs}
        for name, matrix in stored.items():
            self._matrices[name].write(matrix.data)
        for item, source, outcome in zip(results.items, results.inputs, results.outcomes, strict=True):
            self._outcomes.append(outcome)
            if outcome.status != "failed":
                if isinstance(source, Failed):
                    raise ValueError(f"'{item.key}' has status {outcome.status} but no model input: {source.reason}")
                self._metadata.append(item, source)
                self._rows += 1

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
        self._write_table(layout.outcomes_file(self._number), self._outcome_table())
        files = {}
        for name in layout.shard_files(self._outputs, self._number):
            beside = temporary(self._root / name)
            files[name] = layout.StoredFile(beside.stat().st_size, sha256(beside))
        for name in files:
            path = self._root / name
            temporary(path).replace(path)
        for directory in {(self._root / name).parent for name in files}:
            sync_file(directory)
        count = [outcome.status for outcome in self._outcomes].count
        return layout.Shard(self.inputs, self._rows, count("failed"), count("duplicate"), files), types

    def discard(self) -> None:
        """Remove what has been written; called when a run ends in the middle of a shard."""
        for file in self._matrices.values():
            with suppress(OSError):  # closing flushes, and the disk may be full
                file.close()
        for name in layout.shard_files(self._outputs, self._number):
            with suppress(OSError):
                temporary(self._root / name).unlink()

    def _write_table(self, name: str, table: pa.Table) -> None:
        with temporary(self._root / name).open("wb") as file:
            write_parquet(table, file)
            _sync_and_close(file)

    def _outcome_table(self) -> pa.Table:
        columns: dict[str, list[str]] = {
            "key": [outcome.key for outcome in self._outcomes],
            "status": [outcome.status for outcome in self._outcomes],
            "reason": [outcome.reason for outcome in self._outcomes],
        }
        return pa.table({name: to_arrow(values, "string")[0] for name, values in columns.items()})


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
