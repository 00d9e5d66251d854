"""The index on disk: written beside, published by one rename.

::

    INDEX/
      index.json                  # format, fingerprint, model, metric, kind, settings; names, sizes and SHA-256 of:
      index-<sha256[:12]>.faiss   # what faiss.write_index writes
      keys-<sha256[:12]>.parquet  # column key; row i is vector i
      projection-<sha256[:12]>.safetensors  # of vectors made with --pca

The data files are named by their content and ``index.json`` is replaced last, atomically. So whoever opens the
directory sees the index before or after a save, never a mixture, wherever the save was killed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coldpress.errors import StoreError
from coldpress.store.files import sha256, sync_file, temporary, write_atomically

FORMAT = "coldpress-index"
VERSION = 2
MANIFEST = "index.json"
_STEM, _SUFFIX = "(index|keys|projection)", "(faiss|parquet|safetensors)"
_OURS = re.compile(rf"{_STEM}-[0-9a-f]{{12}}\.{_SUFFIX}|\.{_STEM}\.{_SUFFIX}\.tmp")


def save_directory(
    directory: Path, description: Mapping[str, Any], writers: Mapping[str, Callable[[Path], object]]
) -> None:
    """Write one file for each of `writers` (``"index.faiss"``: function of a path), then publish them."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files = {name: _write_by_content(directory, name, write) for name, write in writers.items()}
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


def open_directory(directory: Path, *, verify: bool) -> tuple[dict[str, Any], dict[str, Path]]:
    """The manifest and the path of each file it names, with sizes, and checksums when `verify`, checked."""
    manifest = _read_manifest(directory)
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
    return manifest, paths


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


def _write_by_content(directory: Path, name: str, write: Callable[[Path], object]) -> dict[str, Any]:
    beside = temporary(directory / name)
    write(beside)
    sync_file(beside)
    digest, size = sha256(beside), beside.stat().st_size
    stem, suffix = name.split(".")
    final = directory / f"{stem}-{digest[:12]}.{suffix}"
    beside.replace(final)
    return {"name": final.name, "bytes": size, "sha256": digest}
