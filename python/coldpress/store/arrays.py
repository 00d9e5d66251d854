"""The vectors of one output of one shard while they are written: straight to disk, in the arrays of their dtype."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from coldpress.store import manifest as layout
from coldpress.store.encoding import Part, Stored, encode
from coldpress.store.files import NPY_HEADER_BYTES, npy_header, temporary
from coldpress.store.matrix import part_matrix
from coldpress.store.root import Root


class ArrayWriter:
    """Appends rows to the files of one output in shard `number`."""

    def __init__(self, root: Root, manifest: layout.Manifest, output: layout.StoredOutput, number: int) -> None:
        self._dtype, self._parts = manifest.dtype, output.parts(manifest.dtype)
        self._first_row, self._rows = manifest.rows, 0
        self._committed = [part_matrix(root, manifest, output, part) for part in self._parts]
        self._files: list[IO[bytes]] = []
        for part in self._parts:
            file = temporary(root.directory / layout.matrix_file(output, part, number)).open("w+b")
            self._files.append(file)
            file.write(npy_header(0, part.width, part.dtype))

    def encode(self, vectors: npt.NDArray[np.float32], copies: Sequence[int | None]) -> Stored:
        """New vectors as they are stored, repeated ones byte for byte as the earlier row has them."""
        own = encode(vectors, self._dtype)
        if len(vectors) == len(copies):
            return own
        new = [i for i, copied in enumerate(copies) if copied is None]
        return tuple(self._with_copies(n, array, new, copies) for n, array in enumerate(own))

    def write(self, stored: Stored) -> None:
        """Append what `encode` has made."""
        for file, array in zip(self._files, stored, strict=True):
            file.write(np.ascontiguousarray(array).data)
        self._rows += len(stored[0])

    def finish(self) -> None:
        """Write the headers and make the files durable; they keep their temporary names."""
        for file, part in zip(self._files, self._parts, strict=True):
            file.seek(0)
            file.write(npy_header(self._rows, part.width, part.dtype))
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            with suppress(OSError):  # closing flushes, and the disk may be full
                file.close()

    def _with_copies(
        self, n: int, own: npt.NDArray[Any], new: Sequence[int], copies: Sequence[int | None]
    ) -> npt.NDArray[Any]:
        rows = np.empty((len(copies), self._parts[n].width), own.dtype)
        rows[new] = own
        for i, copied in enumerate(copies):
            if copied is not None:
                rows[i] = self._earlier_row(n, copied, rows)
        return rows

    def _earlier_row(self, n: int, row: int, chunk: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A row of a committed shard, of this one's file, or of the chunk that is being added."""
        place = row - self._first_row
        if place < 0:
            return np.asarray(self._committed[n][row])
        if place >= self._rows:
            return np.asarray(chunk[place - self._rows])
        return _read_row(self._files[n], self._parts[n], place)


def _read_row(file: IO[bytes], part: Part, row: int) -> npt.NDArray[Any]:
    file.flush()
    dtype = np.dtype(part.dtype)
    size = part.width * dtype.itemsize
    return np.frombuffer(os.pread(file.fileno(), size, NPY_HEADER_BYTES + row * size), dtype)
