"""Compressed files, told by their endings and decompressed as they are read, a bounded piece at a time."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import IO, Any, cast

import pyarrow as pa

from coldpress._urls import describe
from coldpress.data import location as place
from coldpress.errors import SourceError


def _zstandard(stream: IO[bytes]) -> Any:
    return pa.CompressedInputStream(pa.PythonFile(cast(io.IOBase, stream), "r"), "zstd")


_READERS: Mapping[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".tgz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _zstandard,  # pyarrow brings it: nothing more to install
}
SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
"""What may follow the ending of a format that is read from front to back."""

_PIECE = 2**18
"""Bytes decompressed at a time. On 600,000 lines of gzip, 64 KiB to 1 MiB take the same 0.10 s and 8 KiB 0.11 s."""


def plain_name(name: str) -> str:
    """`name` without its compression: ``a.jsonl`` for ``a.jsonl.gz``."""
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def is_compressed(location: str) -> bool:
    """Whether its name says so."""
    return location.lower().endswith(tuple(_READERS))


def open_stream(location: str) -> io.BufferedReader:
    """Open a source file for reading from front to back, decompressed.

    Raises
    ------
    SourceError
        If it cannot be opened; while reading, if it is damaged or ends too early: says after how many bytes.
    """
    stream = place.open_binary(location)
    suffix = next((suffix for suffix in _READERS if location.lower().endswith(suffix)), None)
    return io.BufferedReader(_Reader(location, stream, _READERS[suffix](stream) if suffix else stream), _PIECE)


class _Reader(io.RawIOBase):
    """Bytes of a stream, every failure to get at them a `SourceError`."""

    def __init__(self, location: str, file: IO[bytes], content: Any) -> None:
        self._location, self._file, self._content, self._position = location, file, content, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._content.read(len(buffer))
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            reason = describe(error)
            where = f"damaged after {self._position:,} bytes of its content" if self._position else "cannot be read"
            raise SourceError(f"{place.printable(self._location)}: {where}: {reason}") from error
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._content is not self._file:
                self._content.close()
            self._file.close()
