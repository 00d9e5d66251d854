"""What need not be computed: contents that have a row in this store already, or in another one of the same space."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from coldpress.engine.vectors import Vectors
from coldpress.errors import FingerprintMismatch, StoreError
from coldpress.store import EmbeddingStore
from coldpress.store.digests import DigestIndex, KeyLog
from coldpress.store.manifest import Manifest
from coldpress.store.names import metadata_file
from coldpress.store.ragged import RaggedMatrix, open_output
from coldpress.store.root import Root
from coldpress.store.tables import opened_table
from coldpress.types import Fingerprint

_HashedKeys = tuple[list[str], list[str]]


class KnownRows:
    """The first row of every content in a store, committed or on its way there.

    Rows are numbered as the store will number them. Lookups are safe from several threads.
    """

    def __init__(self, root: Root, manifest: Manifest) -> None:
        self._lock = threading.Lock()
        self._index, self._keys = DigestIndex(root.directory), KeyLog(root.directory)
        self._rows = 0
        for hashes, keys in read_rows(root, manifest):
            self._index.add(hashes, range(self._rows, self._rows + len(keys)))
            self._keys.extend(keys)
            self._rows += len(keys)

    def find(self, hashes: Sequence[str]) -> list[int | None]:
        """The row of each content, None for a new one."""
        with self._lock:
            return self._index.find(hashes)

    def first_key(self, row: int) -> str:
        """The key of a row."""
        return self._keys[row]

    def append(self, hashes: Sequence[str], keys: Sequence[str], new: Sequence[bool]) -> None:
        """Add the next rows; those that repeat an earlier one are counted, not indexed."""
        with self._lock:
            places = [self._rows + i for i, is_new in enumerate(new) if is_new]
            self._index.add([digest for digest, is_new in zip(hashes, new, strict=True) if is_new], places)
            self._keys.extend(keys)
            self._rows += len(keys)

    @property
    def count(self) -> int:
        """Rows so far."""
        return self._rows


class ReusedRows:
    """Vectors of another store by content. That store is only read; what is indexed of it goes to `scratch`.

    Raises
    ------
    FingerprintMismatch
        If its vectors are of another space.
    StoreError
        If it has other outputs, or keeps less of a vector than the new store wants.
    """

    def __init__(
        self, path: str | Path, fingerprint: Fingerprint, dims: Mapping[str, int], dtype: str, scratch: Path
    ) -> None:
        self.store = EmbeddingStore(path)
        manifest = self.store.manifest
        if manifest.fingerprint.digest != fingerprint.digest:
            differences = "; ".join(manifest.fingerprint.diff(fingerprint))
            raise FingerprintMismatch(
                f"{path}: cannot be reused, its vectors are of another space (store != this run): {differences}"
            )
        found = {output.name: output.dim for output in manifest.outputs}
        if found != dict(dims) or manifest.dtype not in (dtype, "float32"):
            raise StoreError(
                f"{path}: cannot be reused: has {found} as {manifest.dtype}, this run needs {dict(dims)} as {dtype}"
            )
        self._matrices = {o.name: open_output(self.store.root, manifest, o) for o in manifest.outputs}
        self._index, row = DigestIndex(scratch), 0
        for hashes, keys in read_rows(self.store.root, manifest):
            self._index.add(hashes, range(row, row + len(keys)))
            row += len(keys)
        self._lock = threading.Lock()

    def find(self, hashes: Sequence[str]) -> list[int | None]:
        """The row of each content in that store, None where it has none."""
        with self._lock:
            return self._index.find(hashes)

    def vectors(self, rows: Sequence[int]) -> Vectors:
        """The vectors of rows, by output."""
        numbers = np.asarray(rows, np.int64)
        return {
            name: matrix.take(numbers) if isinstance(matrix, RaggedMatrix) else np.asarray(matrix[numbers], np.float32)
            for name, matrix in self._matrices.items()
        }


def read_rows(root: Root, manifest: Manifest) -> Iterator[_HashedKeys]:
    """Content hashes and keys of all committed rows, a part of a shard at a time."""
    for number, shard in enumerate(manifest.shards):
        if shard.rows:
            with opened_table(root, metadata_file(number)) as file:
                for batch in file.iter_batches(columns=["content_hash", "key"]):
                    hashes, keys = batch.column("content_hash").to_pylist(), batch.column("key").to_pylist()
                    yield [str(value) for value in hashes], [str(value) for value in keys]
