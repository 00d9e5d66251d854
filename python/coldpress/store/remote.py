"""`RemoteRoot`: a store behind a fsspec URL, with a directory here through which its files pass.

Whatever fails in passing (an overload, a timeout, a lost connection) is done again, with growing pauses.
Object stores replace an object as a whole but know no rename and no lock. So a shard's files are uploaded under their
final names, which count for nothing until the manifest lists them, and a ``.lock`` object names the writer. Other
filesystems (SFTP, HDFS, SMB) may be cut off in the middle of a file: the manifest is therefore written twice.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from coldpress._urls import open_filesystem, os_errors, retrying
from coldpress.errors import StoreError
from coldpress.store.files import LOCK_NAME, DirectoryLock, temporary
from coldpress.store.lock_object import LockObject

_KEPT_BYTES, _KEPT_FILES = 1 << 30, 16
"""Fetched and published files stay here up to so many bytes; the last few always, they may be about to be opened."""

T = TypeVar("T")
_MIRROR = "coldpress-store-"
_NEWBORN_S = 60


class RemoteRoot:
    """A store behind a fsspec URL. Picklable: the copy fetches its own files.

    Raises
    ------
    StoreError
        If the URL is of an unknown kind, or the package that opens such URLs is not installed.
    """

    open_shards: ClassVar[int] = 16  # a mapped file takes disk space even after it has been dropped

    def __init__(self, url: str) -> None:
        self.location = url if url.endswith("://") else url.rstrip("/")
        if "::" in url:
            raise StoreError(f"{url}: a store cannot lie behind a chained URL; give the URL of its directory itself")
        try:
            self._filesystem, base = open_filesystem(self.location)
        except (ImportError, ValueError) as error:
            raise StoreError(f"{url}: {error}") from error
        self._base = base.rstrip("/")
        self._mutex = threading.RLock()
        self._mirror: Path | None = None
        self._reached = False
        self._kept: OrderedDict[str, int] = OrderedDict()
        self._kept_bytes = 0

    def __str__(self) -> str:
        return self.location

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteRoot, (self.location,)

    @property
    def directory(self) -> Path:
        """A temporary directory (where TMPDIR says), made at the first use and gone with this object."""
        with self._mutex:
            if self._mirror is None:
                _sweep()
                self._mirror = Path(tempfile.mkdtemp(prefix=_MIRROR))
                weakref.finalize(self, _delete, self._mirror, DirectoryLock(self._mirror), os.getpid())
            return self._mirror

    def holds(self, name: str) -> bool:
        """Whether there is such a JSON file, or a whole copy that was written before it."""
        try:
            with os_errors():  # fsspec's own isfile says no where it should say that it cannot know
                return bool(self._retrying(lambda: self._filesystem.info(self._fresh(name)))["type"] == "file")
        except FileNotFoundError:
            return _is_whole(self._read(_spare(name)))

    def listing(self, directory: str) -> dict[str, int]:
        """The entries of a directory with their sizes in bytes, -1 for directories."""
        path = self._path(directory)
        with os_errors():
            entries = self._retrying(lambda: self._filesystem.ls(self._fresh(directory), detail=True))
        sizes = {}
        for entry in entries:
            name, is_directory = str(entry["name"]), entry["type"] == "directory"
            # Object stores list the placeholder of a directory, and a file in place of one, as its only entry.
            if name.strip("/") != path.strip("/"):
                sizes[name.rstrip("/").rsplit("/", 1)[-1]] = -1 if is_directory else int(entry["size"])
            elif not is_directory and not name.endswith("/") and entry["size"]:
                raise NotADirectoryError(f"{self}/{directory} is a file")
        return sizes

    def read(self, name: str) -> bytes:
        """A JSON file as it is now; where a crash has cut it off, the copy that was written before it."""
        content = None
        for place in (name, _spare(name), name):  # once more, in case its writer has just finished
            content = self._read(place)
            if _is_whole(content):
                break
        if content is None:
            raise FileNotFoundError(f"{self}/{name}")
        return content

    def fetch(self, name: str) -> Path:
        """A committed file as a local one, downloaded unless it is still here."""
        with self._mutex:
            path = self.directory / name
            if name not in self._kept or not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                beside = temporary(path)
                with os_errors():
                    size = int(self._retrying(lambda: self._filesystem.info(self._fresh(name)))["size"])
                    self._retrying(lambda: self._filesystem.get_file(self._path(name), str(beside)))
                if (arrived := beside.stat().st_size) != size:
                    raise OSError(f"{arrived} of {size} bytes arrived")
                beside.replace(path)
            self._keep(name)
            return path

    def create(self) -> None:
        """Nothing to do: directories come with the files in them, and a bucket is never created by a typo."""

    def lock(self) -> LockObject:
        """Become the only writer, or raise `StoreError`."""
        return LockObject(self._filesystem, self._path(LOCK_NAME), self.location)

    def publish(self, names: Iterable[str]) -> None:
        """Upload files from `directory`."""
        for name in names:
            self._put(name, name)
            self._keep(name)

    def replace(self, name: str, content: bytes) -> None:
        """Upload a JSON file beside its place, then in its place: one of them is whole at any moment."""
        (self.directory / name).write_bytes(content)
        self._put(name, _spare(name))
        self._put(name, name)
        self.remove(_spare(name))

    def recover(self, name: str) -> None:
        """Finish or undo what a killed `replace` has left."""
        if (spare := self._read(_spare(name))) is not None:
            if _is_whole(spare):
                self.replace(name, self.read(name))
            self.remove(_spare(name))

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        with self._mutex:
            self._drop(name)
        try:
            with os_errors():
                self._retrying(lambda: self._filesystem.rm_file(self._path(name)))
        except FileNotFoundError:
            pass
        self._fresh(name)

    def _retrying(self, work: Callable[[], T]) -> T:
        try:
            result = retrying(work, reached=self._reached)
        except FileNotFoundError:
            self._reached = True
            raise
        self._reached = True
        return result

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _fresh(self, name: str) -> str:
        """The path, with what the filesystem remembers of it forgotten: others write too."""
        path = self._path(name)
        self._filesystem.invalidate_cache(path)
        return path

    def _read(self, name: str) -> bytes | None:
        try:
            with os_errors():
                return bytes(self._retrying(lambda: self._filesystem.cat_file(self._fresh(name))))
        except FileNotFoundError:
            return None

    def _put(self, name: str, remote_name: str) -> None:
        path = self.directory / name
        with os_errors():
            self._retrying(lambda: self._filesystem.put_file(str(path), self._path(remote_name)))
            arrived = self._retrying(lambda: self._filesystem.info(self._fresh(remote_name)))["size"]
        if arrived != (size := path.stat().st_size):
            raise OSError(f"{arrived} of {size} bytes of {remote_name} arrived")

    def _keep(self, name: str) -> None:
        """Note that a file is here and in use, and drop those that were not for the longest time."""
        with self._mutex:
            size = (self.directory / name).stat().st_size
            self._kept_bytes += size - self._kept.pop(name, 0)
            self._kept[name] = size
            while self._kept_bytes > _KEPT_BYTES and len(self._kept) > _KEPT_FILES:
                self._drop(next(iter(self._kept)))

    def _drop(self, name: str) -> None:
        self._kept_bytes -= self._kept.pop(name, 0)
        if self._mirror is not None:
            (self._mirror / name).unlink(missing_ok=True)


def _spare(name: str) -> str:
    return temporary(Path(name)).as_posix()


def _is_whole(content: bytes | None) -> bool:
    try:
        return content is not None and json.loads(content) is not None
    except ValueError:
        return False


def _delete(mirror: Path, lock: DirectoryLock, owner: int) -> None:
    """Not in a forked child: the directory is its parent's."""
    if os.getpid() == owner:
        shutil.rmtree(mirror, ignore_errors=True)
        lock.release()


def _sweep() -> None:
    """Delete what killed processes have left: directories that nobody has locked, and that are no newborn ones."""
    for mirror in Path(tempfile.gettempdir()).glob(f"{_MIRROR}*"):
        with suppress(OSError, StoreError):
            if time.time() - mirror.stat().st_mtime > _NEWBORN_S:
                lock = DirectoryLock(mirror)
                shutil.rmtree(mirror, ignore_errors=True)
                lock.release()
