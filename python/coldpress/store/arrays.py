"""The vectors of one output of one shard while they are written: straight to disk, in the arrays of their dtype."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from coldpress.store.encoding import OFFSETS, Part, Stored, encode
from coldpress.store.files import NPY_HEADER_BYTES, npy_header, temporary
from coldpress.store.manifest import Manifest
from coldpress.store.names import StoredOutput, matrix_file
from coldpress.store.ragged import part_matrix, ragged_matrix
from coldpress.store.root import Root
from coldpress.types import Ragged, Rows

Block = npt.NDArray[Any]
"""The rows of one item in one array."""


class ArrayWriter:
    """Appends items to the files of one output in shard `number`."""

    def __init__(self, root: Root, manifest: Manifest, output: StoredOutput, number: int) -> None:
        self._dtype, self._ragged, self._dim = manifest.dtype, output.ragged, output.dim
        self._parts = [part for part in output.parts(manifest.dtype) if part != OFFSETS]
        self._first_item, self._ends = manifest.rows, [0]
        self._open_committed = partial(_committed, root, manifest, output, self._parts)
        self._files: list[IO[bytes]] = []
        for part in output.parts(manifest.dtype):
            file = temporary(root.directory / matrix_file(output, part, number)).open("w+b")
            self._files.append(file)
            file.write(npy_header(0, part.width, part.dtype))

    @cached_property
    def _committed(self) -> Sequence[Any]:
        return self._open_committed()

    def encode(self, vectors: Rows, copies: Sequence[int | None]) -> tuple[Stored, list[int]]:
        """Return new items as they are stored, repeated ones byte for byte as the earlier one is; and rows of each."""
        rows = vectors.rows if isinstance(vectors, Ragged) else vectors
        counts = vectors.counts.tolist() if isinstance(vectors, Ragged) else [1] * len(vectors)
        own = encode(rows, self._dtype)
        if len(counts) == len(copies):
            return own, counts
        bounds = np.cumsum(counts)[:-1]
        stored = [self._with_copies(n, np.split(array, bounds), copies) for n, array in enumerate(own)]
        counts = [len(block) for block in stored[0]]
        return tuple(np.concatenate(blocks) for blocks in stored), counts

    def write(self, stored: Stored, counts: Sequence[int]) -> None:
        """Append what `encode` has made."""
        for file, array in zip(self._files, stored, strict=False):
            file.write(np.ascontiguousarray(array).data)
        for count in counts:
            self._ends.append(self._ends[-1] + count)

    def finish(self) -> None:
        """Write offsets and headers and make the files durable; they keep their temporary names."""
        if self._ragged:
            ends = np.array(self._ends, np.int64)
            self._files[-1].write(np.stack([ends[:-1], ends[1:]], axis=1).data)
        lengths = [self._ends[-1]] * len(self._parts) + [len(self._ends) - 1]
        for file, part, length in zip(self._files, [*self._parts, OFFSETS], lengths, strict=False):
            file.seek(0)
            file.write(npy_header(length, part.width, part.dtype))
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            with suppress(OSError):  # closing flushes, and the disk may be full
                file.close()

    def _with_copies(self, n: int, own: Sequence[Block], copies: Sequence[int | None]) -> list[Block]:
        fresh, blocks = iter(own), list[Block]()
        for copied in copies:
            blocks.append(next(fresh) if copied is None else self._earlier(n, copied, blocks))
        return blocks

    def _earlier(self, n: int, item: int, chunk: Sequence[Block]) -> Block:
        """The rows of an item of a committed shard, of this one's file, or of the chunk that is being added."""
        place = item - self._first_item
        if place < 0:
            block: Block = self._committed[n][item]
            return block.reshape(-1, self._parts[n].width)
        if place >= len(self._ends) - 1:
            return chunk[place - len(self._ends) + 1]
        return _read_rows(self._files[n], self._parts[n], self._ends[place], self._ends[place + 1])


def _committed(root: Root, manifest: Manifest, output: StoredOutput, parts: Sequence[Part]) -> Sequence[Any]:
    """The arrays of an output in the shards before; most shards repeat no vector and never look at them."""
    matrices = [part_matrix(root, manifest, output, part) for part in parts]
    return [ragged_matrix(root, manifest, output, matrix) for matrix in matrices] if output.ragged else matrices


def _read_rows(file: IO[bytes], part: Part, first: int, end: int) -> Block:
    file.flush()
    dtype = np.dtype(part.dtype)
    width = part.width * dtype.itemsize
    content = os.pread(file.fileno(), (end - first) * width, NPY_HEADER_BYTES + first * width)
    return np.frombuffer(content, dtype).reshape(-1, part.width)
