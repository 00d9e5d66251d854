"""`AheadReader`: a file behind a URL, read range by range, the next ones while the last one is being used."""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from coldpress._urls import retrying

_SMALLEST, _LARGEST = 1 << 16, 1 << 23
_AHEAD = 2
"""Ranges under way: at 50 ms a request and 100 MB/s a connection, two of 8 MB keep one connection busy all the time."""


class AheadReader(io.RawIOBase):
    """Ranges grow from 64 KB to 8 MB while they follow each other, and start small again after a jump.

    So the footer of a parquet file costs 64 KB and a tar streams at the speed of the link. A range that fails in
    passing is asked for again: a lost connection in the middle of a large file costs one range.
    """

    def __init__(self, filesystem: Any, path: str, size: int) -> None:
        self._filesystem, self._path, self._size = filesystem, path, size
        self._at = self._start = 0
        self._held = b""
        self._window = _SMALLEST
        self._pool: ThreadPoolExecutor | None = None
        self._coming: deque[tuple[int, Future[bytes]]] = deque()
        self._next = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go elsewhere; nothing is read yet."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read some bytes, 0 at the end."""
        if self._at >= self._size or not len(buffer):
            return 0
        if not self._start <= self._at < self._start + len(self._held):
            self._advance(len(buffer))
        offset = self._at - self._start
        piece = memoryview(self._held)[offset : offset + len(buffer)]
        memoryview(buffer).cast("B")[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        """Let go of what is under way."""
        self._forget()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _advance(self, wanted: int) -> None:
        follows = bool(self._held) and self._at == self._start + len(self._held)
        if self._coming and self._coming[0][0] == self._at:
            self._held = self._coming.popleft()[1].result()
        else:
            self._forget()
            self._window = max(self._window if follows else _SMALLEST, min(wanted, _LARGEST))
            self._held = self._fetch(self._at, min(self._at + self._window, self._size))
        self._start = self._at
        if follows:
            self._look_ahead()

    def _look_ahead(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_AHEAD, "coldpress-ahead")
        begin = self._start + len(self._held)
        if self._coming:
            begin = self._next
        while len(self._coming) < _AHEAD and begin < self._size:
            self._window = min(2 * self._window, _LARGEST)
            end = min(begin + self._window, self._size)
            self._coming.append((begin, self._pool.submit(self._fetch, begin, end)))
            begin = self._next = end

    def _fetch(self, begin: int, end: int) -> bytes:
        def fetch() -> bytes:
            content = bytes(self._filesystem.cat_file(self._path, start=begin, end=end))
            if len(content) != end - begin:
                raise ConnectionError(f"{len(content)} of {end - begin} bytes arrived")
            return content

        return retrying(fetch)

    def _forget(self) -> None:
        for _, future in self._coming:
            future.cancel()
        self._coming.clear()
