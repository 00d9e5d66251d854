"""`EmbeddingStore`: read what `StoreWriter` has committed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldpress.errors import StoreError
from coldpress.store.files import sha256
from coldpress.store.keys import Keys
from coldpress.store.manifest import Manifest, check_sizes, read_manifest
from coldpress.store.matrix import Matrix, ShardedMatrix, VectorMatrix, iter_blocks
from coldpress.store.names import StoredOutput, metadata_file
from coldpress.store.projection import Projection, read_projection
from coldpress.store.ragged import RaggedMatrix, open_output, open_part
from coldpress.store.root import Root, open_root
from coldpress.store.schema import base_types
from coldpress.store.tables import opened_table
from coldpress.types import Certificate, Fingerprint


class EmbeddingStore:
    """A store on disk or behind a fsspec URL: vectors, keys, metadata and outcomes, all read when they are asked for.

    A store may be read while it is being written: it then shows the shards committed when it was opened. Only its
    outcomes are to be read from one that is opened again, once a run has moved failures or merged segments.

    Parameters
    ----------
    path
        The directory, or a URL such as ``s3://bucket/store``: its files are downloaded as they are needed, and a
        few of them kept in a temporary directory while the store is open.

    Raises
    ------
    StoreError
        If it is not a store, cannot be reached, is damaged, lacks a file, or was written by a newer version.

    Examples
    --------
    >>> store = EmbeddingStore("out")                        # doctest: +SKIP
    >>> store.embeddings[store.row("cat/001.jpg")].shape     # doctest: +SKIP
    (384,)
    """

    def __init__(self, path: str | Path) -> None:
        self._root = open_root(path)
        self._manifest = read_manifest(self._root)

    def __len__(self) -> int:
        return self._manifest.rows

    def __repr__(self) -> str:
        widths = " + ".join(str(output.dim) for output in self._manifest.outputs)
        state = "complete" if self.complete else "incomplete"
        return f"EmbeddingStore({str(self.path)!r}: {len(self):,} x {widths} {self.dtype}, {self.model}, {state})"

    @property
    def path(self) -> Path | str:
        """The directory as a path, or the URL."""
        return self._root.location

    @property
    def root(self) -> Root:
        """Its files."""
        return self._root

    @property
    def manifest(self) -> Manifest:
        """Everything in ``manifest.json`` when the store was opened."""
        return self._manifest

    @property
    def fingerprint(self) -> Fingerprint:
        """What other vectors must share to be comparable with these."""
        return self._manifest.fingerprint

    @property
    def certificate(self) -> Certificate | None:
        """How close the vectors are to the fp32 reference, if that was measured."""
        return self._manifest.certificate

    @cached_property
    def projection(self) -> Projection | None:
        """The principal directions that the vectors were mapped to, if they were."""
        fields = self.fingerprint.fields.get("pca")
        return None if fields is None else read_projection(self._root, str(fields["sha256"]))

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._manifest.model

    @property
    def source(self) -> str:
        """Name of the source."""
        return self._manifest.source

    @property
    def description(self) -> Mapping[str, Any]:
        """What else the run has noted."""
        return self._manifest.description

    @property
    def dtype(self) -> str:
        """How the vectors are stored: ``"float16"``, ``"float32"``, ``"int8"`` or ``"binary"``."""
        return self._manifest.dtype

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return self._manifest.complete

    @property
    def inputs(self) -> int:
        """Inputs accounted for: ``len(store) + store.failed``."""
        return self._manifest.inputs

    @property
    def failed(self) -> int:
        """Inputs without a row; `outcomes` has the reasons."""
        return self._manifest.shards.totals.failed

    @property
    def nbytes(self) -> int:
        """Bytes of all committed files."""
        return self._manifest.shards.totals.nbytes

    @property
    def duplicates(self) -> int:
        """Rows whose vector was copied from an equal input."""
        return self._manifest.shards.totals.duplicates

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the order asked for when the store was made."""
        return tuple(output.name for output in self._manifest.outputs)

    @property
    def ragged(self) -> tuple[str, ...]:
        """Names of the outputs of which each item has a matrix."""
        return tuple(output.name for output in self._manifest.outputs if output.ragged)

    @property
    def dims(self) -> Mapping[str, int]:
        """Width D of each output."""
        return {output.name: output.dim for output in self._manifest.outputs}

    @property
    def dim(self) -> int:
        """Width D of `embeddings`."""
        return self.dims[self.default_output]

    @property
    def default_output(self) -> str:
        """The first output with a vector an item, if there is one, else the first."""
        return next((output.name for output in self._manifest.outputs if not output.ragged), self.outputs[0])

    @property
    def embeddings(self) -> VectorMatrix:
        """The vectors (N, D) of the only output, or of the first of several; see `output` for the type.

        Raises
        ------
        StoreError
            If every output has a matrix an item, or the vectors are stored as signs.
        """
        matrix = self.output(self.default_output)
        if isinstance(matrix, RaggedMatrix):
            raise StoreError(
                f"{self.path}: holds a matrix for every item: read output('{self.default_output}')[row], or embed with "
                f"--output pooled,{self.default_output}"
            )
        return matrix

    def output(self, name: str) -> VectorMatrix | RaggedMatrix:
        """The vectors (N, D) of one output, or the matrices (n_i, D) of one that has a row for every token or patch.

        Returns
        -------
        numpy.memmap, ShardedMatrix or DecodedMatrix
            Of float16 and float32 the mapped file where there is one shard, else a matrix over all of them; of int8 a
            matrix that gives float32 rows. All of them stay on disk and take the same row indices.
        RaggedMatrix
            Of ``tokens`` and ``patches``: row i gives the matrix of item i.

        Raises
        ------
        StoreError
            If there is no such output, or its vectors are stored as signs; see `bits`.
        """
        found = self._output(name)
        if self.dtype == "binary":
            raise StoreError(
                f"{self.path}: holds one bit a dimension (binary), not numbers: build an index of it, read "
                "EmbeddingStore.bits(), or embed again with --dtype int8"
            )
        if name not in self._matrices:
            self._matrices[name] = open_output(self._root, self._manifest, found)
        return self._matrices[name]

    def bits(self, name: str | None = None) -> ShardedMatrix | Matrix:
        """The packed signs (N, ceil(D / 8)) uint8 of an output (None: the first) of a binary store.

        Bit ``7 - d % 8`` of byte ``d // 8`` is 1 where dimension d is above 0, as of ``numpy.packbits``.

        Raises
        ------
        StoreError
            If there is no such output, or the store holds numbers.
        """
        found = self._output(name or self.default_output)
        if self.dtype != "binary":
            raise StoreError(f"{self.path}: holds {self.dtype}, not bits: read EmbeddingStore.output()")
        return open_part(self._root, self._manifest, found, *found.parts(self.dtype))

    def _output(self, name: str) -> StoredOutput:
        found = next((output for output in self._manifest.outputs if output.name == name), None)
        if found is None:
            raise StoreError(f"{self.path}: no output '{name}', expected one of {', '.join(self.outputs)}")
        return found

    def blocks(self, rows: int = 65_536, output: str | None = None) -> Iterator[Matrix]:
        """The vectors in order, `rows` at a time: all of them in bounded memory, however many shards there are.

        Of an output with a matrix an item those of all tokens, one below the other.
        """
        matrix = self.embeddings if output is None else self.output(output)
        return iter_blocks(matrix.values if isinstance(matrix, RaggedMatrix) else matrix, rows)

    @cached_property
    def keys(self) -> Keys:
        """The key of every row."""
        column = self.read_metadata(["key"]).column("key").cast(pa.large_string())
        return Keys(pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.large_string()))

    def row(self, key: str) -> int:
        """The row of a key (the first, where a key column repeats it).

        Raises
        ------
        StoreError
            If no row has it: the item may have failed, see `outcomes`.
        """
        row = self.keys.find(key)
        if row is None:
            raise StoreError(f"{self.path}: no row with key {key!r}; if the item failed, the outcomes say why")
        return row

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metadata columns."""
        return tuple(name for name, _ in self._manifest.schema or base_types())

    @cached_property
    def metadata(self) -> pa.Table:
        """One row per vector: key, source, content_hash, ... Whole in memory; see `read_metadata` for a part."""
        return self.read_metadata()

    def read_metadata(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read some columns of the metadata, or all."""
        names = [metadata_file(number) for number in range(len(self._manifest.shards))]
        return self._read_tables(names, columns, empty=columns or ["key"])

    def take_metadata(self, rows: npt.ArrayLike, columns: Sequence[str] | None = None) -> pa.Table:
        """Read some rows of the metadata, in the order of `rows` (N,), or some columns of them; no shard but theirs.

        Raises
        ------
        IndexError
            For a row that is not there.
        """
        wanted = np.asarray(rows, np.int64)
        if not len(wanted):
            return self._read_tables([], columns, empty=columns or self.columns)
        if wanted.min() < 0 or wanted.max() >= len(self):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()}, expected 0 to {len(self) - 1}")
        starts = np.concatenate([[0], np.cumsum(self._manifest.shards.rows)])
        homes = np.searchsorted(starts, wanted, side="right") - 1
        order = np.argsort(homes, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(homes[order])) + 1)
        tables = self._iter_tables([metadata_file(int(homes[part[0]])) for part in parts], columns)
        taken = [table.take(wanted[part] - starts[homes[part[0]]]) for part, table in zip(parts, tables, strict=True)]
        return pa.concat_tables(taken, promote_options="default").take(np.argsort(order))

    def iter_metadata(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Some columns of the metadata, or all, shard by shard: of any number of rows in bounded memory."""
        names = [metadata_file(number) for number in range(len(self._manifest.shards))]
        return self._iter_tables(names, columns)

    @cached_property
    def outcomes(self) -> pa.Table:
        """One row per input, failed ones included: key, status, reason."""
        names = [shard.outcomes for shard in self._manifest.shards]
        return self._read_tables(names, None, empty=["key", "status", "reason"])

    def failures(self) -> Iterator[tuple[str, str]]:
        """(key, reason) of every input that failed, without holding all outcomes in memory."""
        for shard in self._manifest.shards:
            if shard.failed:
                with opened_table(self._root, shard.outcomes) as file:
                    for batch in file.iter_batches():
                        failed = batch.filter(pc.equal(batch.column("status"), pa.scalar("failed")))
                        yield from zip(
                            failed.column("key").to_pylist(), failed.column("reason").to_pylist(), strict=True
                        )

    def verify(self) -> None:
        """Read every file and compare it with its SHA-256.

        Raises
        ------
        StoreError
            Naming the first file that is not as it was written.
        """
        check_sizes(self._root, self._manifest)
        _ = self.projection
        segments = ((segment.name, segment.file) for segment in self._manifest.shards.segments)
        for name, stored in chain(segments, (file for shard in self._manifest.shards for file in shard.files.items())):
            try:
                found = sha256(self._root.fetch(name))
            except OSError as error:
                raise StoreError(f"{self.path}/{name}: cannot be read: {error.strerror or error}") from error
            if found != stored.sha256:
                raise StoreError(
                    f"{self.path}/{name}: damaged: sha256 {found}, expected {stored.sha256}; restore it, or embed again"
                )

    @cached_property
    def _matrices(self) -> dict[str, VectorMatrix | RaggedMatrix]:
        return {}

    def _read_tables(self, names: Sequence[str], columns: Sequence[str] | None, *, empty: Sequence[str]) -> pa.Table:
        tables = list(self._iter_tables(names, columns))
        if not tables:
            return pa.table({name: pa.array([], pa.string()) for name in empty})
        # A shard without a single row, written before any row had fixed the columns, has fewer of them.
        return pa.concat_tables(tables, promote_options="default")

    def _iter_tables(self, names: Sequence[str], columns: Sequence[str] | None) -> Iterator[pa.Table]:
        for name in names:
            with opened_table(self._root, name) as file:
                wanted = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
                yield file.read(columns=wanted)
