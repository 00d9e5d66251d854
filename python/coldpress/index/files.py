"""The index on disk: written beside, published by one rename.

::

    INDEX/
      index.json                  # fingerprint, kind, settings, certificate ...; name, size and SHA-256 of:
      index-<sha256[:12]>.faiss   # what faiss.write_index writes
      rows-<sha256[:12]>.parquet  # key and metadata; row i is vector i
      trained-<sha256[:12]>.faiss # the same index before its first row, where it needed training
      removed-<sha256[:12]>.npy   # one bit a row, packed: 1 where it has been removed
      projection-<sha256[:12]>.safetensors  # of vectors made with --pca

The data files are named by their content and ``index.json`` is replaced last, atomically. So whoever opens the
directory sees the index before or after a save, never a mixture, wherever the save was killed. Savers wait for each
other; a reader whose files were replaced between its manifest and them begins again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from coldpress.errors import StoreError
from coldpress.store.files import sha256, sync_file, temporary, write_atomically

Opened = TypeVar("Opened")

FORMAT = "coldpress-index"
VERSION = 3
MANIFEST = "index.json"
_STEM, _SUFFIX = "(index|rows|trained|removed|projection)", "(faiss|parquet|npy|safetensors)"
_OURS = re.compile(rf"{_STEM}-[0-9a-f]{{12}}\.{_SUFFIX}|\.{_STEM}\.{_SUFFIX}\.tmp")


Entries = Mapping[str, Mapping[str, Any]]
"""Name, bytes and sha256 of each file, as the manifest has them."""


def save_directory(
    directory: Path,
    description: Mapping[str, Any],
    writers: Mapping[str, Callable[[Path], object]],
    unchanged: Entries = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
    """Write one file for each of `writers` (``"index.faiss"``: function of a path), then publish them.

    A file of `unchanged` that still is in the directory is not written again. Returns the entries of all of them.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _alone(directory):
            files = {
                name: _still_there(directory, unchanged.get(name)) or _write_by_content(directory, name, write)
                for name, write in writers.items()
            }
            manifest = {"format": FORMAT, "version": VERSION, **description, "files": files}
            write_atomically(directory / MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
            current = {entry["name"] for entry in files.values()}
            for leftover in directory.iterdir():
                if _OURS.fullmatch(leftover.name) and leftover.name not in current:
                    leftover.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot save the index to {directory}: {error}; what was there before is intact, free space or choose"
            " a writable directory"
        ) from error
    return files


def open_directory(
    directory: Path, read: Callable[[dict[str, Any], dict[str, Path]], Opened], *, verify: bool
) -> Opened:
    """What `read` makes of the manifest and the path of each file, with sizes, and checksums when `verify`, checked."""
    while True:
        manifest = _read_manifest(directory)
        try:
            return read(manifest, _checked_paths(directory, manifest, verify=verify))
        except (StoreError, OSError):
            if _read_manifest(directory) == manifest:
                raise


def _checked_paths(directory: Path, manifest: Mapping[str, Any], *, verify: bool) -> dict[str, Path]:
    paths = {}
    for name, entry in manifest["files"].items():
        path = paths[name] = directory / Path(entry["name"]).name
        if not path.is_file():
            raise StoreError(f"{path} is missing though {MANIFEST} names it: restore it or build the index again")
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise StoreError(f"{path} has {size} bytes, expected {entry['bytes']}: damaged, build the index again")
        if verify and sha256(path) != entry["sha256"]:
            raise StoreError(f"{path} does not have the SHA-256 in {MANIFEST}: damaged, build the index again")
    return paths


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One saver at a time; the lock is on the directory itself and goes with the process."""
    try:
        import fcntl
    except ImportError:  # no such locks here
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"{directory} is not an index, it has no {MANIFEST}: make one with coldpress index") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}): build the index again") from error
    found = (manifest.get("format"), manifest.get("version")) if isinstance(manifest, dict) else None
    if found != (FORMAT, VERSION):
        raise StoreError(f"{path} has format {found}, expected {(FORMAT, VERSION)}: use the coldpress that wrote it")
    return manifest  # type: ignore[no-any-return]


def _still_there(directory: Path, entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    path = directory / str(entry["name"])
    return dict(entry) if path.is_file() and path.stat().st_size == entry["bytes"] else None


def _write_by_content(directory: Path, name: str, write: Callable[[Path], object]) -> dict[str, Any]:
    beside = temporary(directory / name)
    try:
        write(beside)
        sync_file(beside)
        digest, size = sha256(beside), beside.stat().st_size
        stem, suffix = name.split(".")
        final = directory / f"{stem}-{digest[:12]}.{suffix}"
        beside.replace(final)
    finally:
        beside.unlink(missing_ok=True)  # half an index is not to keep a full disk full
    return {"name": final.name, "bytes": size, "sha256": digest}
