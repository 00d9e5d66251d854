"""Where files lie: local paths and fsspec URLs behind one handful of functions.

No source format knows the difference. Local files go through ``os.scandir`` and ``open``; everything with a
``://`` goes through fsspec. Names are POSIX style everywhere.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, cast

import fsspec

from coldpress._urls import describe, is_url, open_filesystem, retrying
from coldpress.data.ahead import AheadReader
from coldpress.errors import SourceError

logger = logging.getLogger(__name__)


def join(directory: str, name: str) -> str:
    """`name` inside `directory`; an absolute path or URL in `name` stands for itself."""
    if is_url(name) or name.startswith("/"):
        return name
    if not is_url(directory):
        return str(Path(directory) / name)
    return directory + name if directory.endswith("/") else f"{directory}/{name}"


def parent(location: str) -> str:
    """The directory that holds a file."""
    if is_url(location):
        return location.rsplit("/", 1)[0] + "/"
    return str(Path(location).parent)


def base_name(location: str) -> str:
    """The last component: ``photos`` for ``/data/photos/``, the directory's real name for ``.``."""
    if is_url(location):
        return location.split("://", 1)[1].rstrip("/").rsplit("/", 1)[-1]
    return printable(Path(location).name or Path(location).resolve().name)


def printable(path: str) -> str:
    r"""`path` as valid Unicode: bytes of a file name that are not UTF-8 are written ``\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def kind(location: str) -> Literal["file", "directory"] | None:
    """What lies there; None for nothing."""
    if is_url(location):
        filesystem, path = _filesystem(location)
        try:
            found = retrying(lambda: filesystem.info(path), reached=False)
            return "directory" if found["type"] == "directory" else "file"
        except FileNotFoundError:
            return None
        except Exception as error:
            hint = "; check the credentials and their rights" if isinstance(error, PermissionError) else ""
            raise SourceError(f"{location}: cannot be reached: {describe(error)}{hint}") from error
    try:
        mode = Path(location).stat().st_mode
    except ValueError:  # a NUL character
        return None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
            return None
        raise SourceError(f"{printable(location)}: cannot be reached: {describe(error)}") from error
    return "directory" if stat.S_ISDIR(mode) else "file"


def open_binary(location: str) -> IO[bytes]:
    """Open a source file for reading; anything that prevents it is a `SourceError`."""
    try:
        if is_url(location):
            return _open_url(location)
        return Path(location).open("rb")
    except Exception as error:
        raise SourceError(f"{location}: cannot be opened: {describe(error)}") from error


def _open_url(location: str) -> IO[bytes]:
    """Read in ranges where the size is known and ranges can be had; a file in another file as fsspec does it."""
    if "::" not in location:
        filesystem, path = open_filesystem(location)
        if (size := retrying(lambda: filesystem.info(path)).get("size")) is not None:
            return cast(IO[bytes], io.BufferedReader(AheadReader(filesystem, path, int(size)), 1 << 16))
    file: IO[bytes] = fsspec.open(location, "rb").open()
    return file


def walk(root: str, depth: int | None = None) -> Iterator[str]:
    """Every file below a directory as a path relative to it, in the order of those paths.

    Lazy: only the entry names of the directories between the root and the current file are in memory. Hidden
    entries are skipped. Symbolic links are followed, except those that lead back to a directory above them.

    Parameters
    ----------
    root
        A local directory or a fsspec URL of one.
    depth
        How many levels of sub-directories to enter; None for all.
    """
    list_names = _url_lister(root) if is_url(root) else _list_local

    def descend(directory: str, prefix: str, level: int, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        above |= _identity(directory)
        for name in list_names(directory):
            if not name.endswith("/"):
                yield prefix + name
            elif depth is None or level < depth:
                child = join(directory, name[:-1])
                if _identity(child) & above:
                    logger.warning("%s: a link to a directory above it is not followed", child)
                else:
                    yield from descend(child, prefix + name, level + 1, above)

    return descend(root, "", 0, frozenset())


def has_directories(root: str) -> bool:
    """Whether the directory has sub-directories."""
    names = _url_lister(root)(root) if is_url(root) else _list_local(root)
    return any(name.endswith("/") for name in names)


def _list_local(directory: str) -> list[str]:
    """Entry names, directories with a trailing slash: sorted so, a depth-first walk yields sorted paths."""
    try:
        with os.scandir(directory) as entries:
            names = [
                entry.name + "/" if entry.is_dir() else entry.name
                for entry in entries
                if not entry.name.startswith(".") and (entry.is_dir() or entry.is_file() or _is_broken_link(entry))
            ]
    except OSError as error:
        raise SourceError(f"{printable(directory)}: cannot be listed: {describe(error)}") from error
    return sorted(names)


def _is_broken_link(entry: os.DirEntry[str]) -> bool:
    """A link to nothing is listed, so that it ends as a failed item and not as a silent gap."""
    return entry.is_symlink() and not Path(entry.path).exists()


def _url_lister(root: str) -> Callable[[str], list[str]]:
    filesystem, _ = _filesystem(root)

    def list_names(directory: str) -> list[str]:
        path = str(filesystem._strip_protocol(directory)).rstrip("/")
        try:
            entries = retrying(lambda: filesystem.ls(path, detail=True))
        except Exception as error:
            raise SourceError(f"{directory}: cannot be listed: {describe(error)}") from error
        names = []
        for entry in entries:
            full = str(entry["name"]).rstrip("/")
            name = full.rsplit("/", 1)[-1]
            # Object stores list the placeholder object of a directory among its own entries.
            if full != path and name and not name.startswith("."):
                names.append(name + "/" if entry["type"] == "directory" else name)
        return sorted(names)

    return list_names


def _identity(directory: str) -> frozenset[tuple[int, int]]:
    if is_url(directory):
        return frozenset()
    try:
        status = Path(directory).stat()
    except OSError:
        return frozenset()  # listing it reports the reason
    return frozenset([(status.st_dev, status.st_ino)])


def _filesystem(location: str) -> tuple[Any, str]:
    if "::" in location:
        raise SourceError(f"{location}: chained URLs cannot be listed; give the URL of the files themselves")
    try:
        return open_filesystem(location)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{location}: {error}") from error
