"""`Root`: where a store lies. A directory here and a fsspec URL look the same to everything else in this package."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from coldpress._urls import is_url, normalise
from coldpress.errors import StoreError
from coldpress.store.files import DirectoryLock, sync_file, temporary, write_atomically
from coldpress.store.remote import RemoteRoot


class Lock(Protocol):
    """The right to write to a store."""

    def confirm(self) -> None:
        """Raise `StoreError` if it has been lost."""

    def release(self) -> None:
        """Let others write; harmless when repeated."""


class Root(Protocol):
    """The files of a store by relative POSIX name. Whatever fails raises an OSError; ``str()`` is for messages."""

    open_shards: ClassVar[int]
    """How many matrices of it a reader should keep mapped."""

    @property
    def location(self) -> Path | str:
        """The directory as a path, or the URL."""

    @property
    def directory(self) -> Path:
        """A directory here: new files are prepared in it under their names before `publish`; scratch files too."""

    def holds(self, name: str) -> bool:
        """Whether there is something for `read`."""

    def listing(self, directory: str) -> dict[str, int]:
        """The entries of a directory with their sizes in bytes, -1 for directories."""

    def read(self, name: str) -> bytes:
        """What a file that `replace` has written holds now."""

    def fetch(self, name: str) -> Path:
        """A committed file as a local one, to be opened at once: it may be dropped after later calls."""

    def create(self) -> None:
        """Create the directory where that is needed."""

    def lock(self) -> Lock:
        """Become the only writer, or raise `StoreError`."""

    def publish(self, names: Iterable[str]) -> None:
        """Make files that lie durably in `directory` part of the root, whole and checked."""

    def replace(self, name: str, content: bytes) -> None:
        """Write a file so that `read` gives the old content or the new one, whatever happens."""

    def recover(self, name: str) -> None:
        """Clear up what a killed `replace` has left; for the holder of the lock."""

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""


@dataclass(frozen=True, slots=True)
class LocalRoot:
    """A directory of this machine: its files are read and written where they lie."""

    directory: Path
    open_shards: ClassVar[int] = 64  # each holds a file descriptor, of which a process usually has 1,024

    def __str__(self) -> str:
        return str(self.directory)

    @property
    def location(self) -> Path:
        """The directory."""
        return self.directory

    def holds(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.directory / name).is_file()

    def listing(self, directory: str) -> dict[str, int]:
        """The entries of a directory with their sizes in bytes, -1 for directories."""
        sizes = {}
        with os.scandir(self.directory / directory) as entries:
            for entry in entries:
                try:
                    status = entry.stat()
                except FileNotFoundError:  # a temporary file of a writer that is at work
                    continue
                sizes[entry.name] = -1 if stat.S_ISDIR(status.st_mode) else status.st_size
        return sizes

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return (self.directory / name).read_bytes()

    def fetch(self, name: str) -> Path:
        """Where it lies."""
        return self.directory / name

    def create(self) -> None:
        """Create the directory and those above it."""
        if not self.directory.is_dir():
            self.directory.mkdir(parents=True, exist_ok=True)
            sync_file(self.directory.parent)  # or its name could go with the power

    def lock(self) -> Lock:
        """Become the only writer, or raise `StoreError`."""
        return DirectoryLock(self.directory)

    def publish(self, names: Iterable[str]) -> None:
        """Nothing is left to do: files are prepared where they belong."""

    def replace(self, name: str, content: bytes) -> None:
        """Write beside it, force to disk, rename."""
        write_atomically(self.directory / name, content)

    def recover(self, name: str) -> None:
        """Delete the file that had not been renamed."""
        temporary(self.directory / name).unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        (self.directory / name).unlink(missing_ok=True)


def open_root(location: str | Path) -> Root:
    """The root at a path or fsspec URL; nothing is created or read yet.

    Raises
    ------
    StoreError
        If the URL is of an unknown kind, or the package that opens such URLs is not installed.
    """
    text = normalise(location)
    return RemoteRoot(text) if is_url(text) else LocalRoot(Path(text))


def is_store(location: str | Path) -> bool:
    """Whether a store can be reached there."""
    try:
        return open_root(location).holds("manifest.json")
    except (OSError, StoreError):
        return False
