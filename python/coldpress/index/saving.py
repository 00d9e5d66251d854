"""An index to a directory and back; see `files` for what makes that atomic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldpress.errors import StoreError
from coldpress.index import files
from coldpress.index._faiss import load_faiss
from coldpress.index.contents import Contents
from coldpress.index.recall import RecallCertificate
from coldpress.index.rows import rows_of_file
from coldpress.index.signs import SignIndex
from coldpress.index.space import Space
from coldpress.index.tuning import Setting
from coldpress.store.projection import PROJECTION_NAME, Projection
from coldpress.types import Fingerprint

MAPPABLE = ("exact", "hnsw", "ivf")
"""Kinds whose files faiss can leave on disk; of others it may, and crashes when some of them are closed."""


def save(contents: Contents, directory: Path) -> None:
    """Write what has changed since it was saved there, all of it elsewhere; publish at once."""
    faiss, space = load_faiss(), contents.space
    description = {
        "rows": len(contents.removed),
        "dim": int(contents.index.d),
        "kind": contents.kind,
        "metric": space.metric,
        "model": space.model,
        "description": dict(space.description),
        "output": space.output,
        "fingerprint": dict(space.fingerprint.fields),
        "settings": dict(contents.settings),
        "effort": contents.setting.effort,
        "k_factor": contents.setting.k_factor,
        "certificate": contents.certificate.to_json(),
    }

    def write_index(path: Path) -> None:
        try:
            if isinstance(contents.index, SignIndex):
                contents.index.write(str(path))
            else:
                faiss.write_index(contents.index, str(path))
        except RuntimeError as error:  # how faiss reports a full disk
            raise OSError(str(error)) from error

    writers: dict[str, Callable[[Path], object]] = {"index.faiss": write_index, "rows.parquet": contents.rows.write}
    if (trained := contents.trained) is not None:
        writers["trained.faiss"] = lambda path: path.write_bytes(trained.tobytes())
    if contents.removed.any():
        writers["removed.npy"] = lambda path: _save_array(path, np.packbits(contents.removed))
    if (projection := space.projection) is not None:
        writers[PROJECTION_NAME] = lambda path: path.write_bytes(projection.to_bytes())
    here = directory.resolve()
    unchanged = contents.files if contents.directory == here else {}
    contents.files = files.save_directory(directory, description, writers, unchanged)
    contents.directory = here


def open_contents(directory: Path, *, verify: bool, memory_map: bool) -> Contents:
    """Read what `save` wrote."""

    def read(manifest: dict[str, Any], paths: dict[str, Path]) -> Contents:
        try:
            contents = _read(manifest, paths, memory_map=memory_map)
        except (RuntimeError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise StoreError(f"{directory} is damaged ({error}): build the index again") from error
        index, rows = contents.index, len(contents.rows)
        if (index.ntotal, index.d, rows) != (manifest["rows"], manifest["dim"], manifest["rows"]):
            raise StoreError(
                f"{directory} holds {index.ntotal} vectors of width {index.d} and {rows} keys, expected"
                f" {manifest['rows']} of width {manifest['dim']}: build the index again"
            )
        contents.directory = directory.resolve()
        return contents

    return files.open_directory(directory, read, verify=verify)


def in_memory(contents: Contents, faiss: Any) -> Any:
    """The index where it can grow: one that is mapped is read anew."""
    if not contents.mapped:
        return contents.index
    assert contents.directory is not None
    return faiss.read_index(str(contents.directory / contents.files["index.faiss"]["name"]))


def _read(manifest: dict[str, Any], paths: dict[str, Path], *, memory_map: bool) -> Contents:
    faiss, path, rows = load_faiss(), str(paths["index.faiss"]), int(manifest["rows"])
    mapped = memory_map and manifest["kind"] in MAPPABLE
    if manifest["kind"] == "binary":
        index = SignIndex(faiss, faiss.read_index_binary(path), manifest["dim"])
    else:
        index = faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    removed, trained, projection = (paths.get(name) for name in ("removed.npy", "trained.faiss", PROJECTION_NAME))
    space = Space(
        Fingerprint(manifest["fingerprint"]),
        manifest["model"],
        manifest["output"],
        manifest["metric"],
        None if projection is None else Projection.from_bytes(projection.read_bytes()),
        MappingProxyType(manifest["description"]),
    )
    mask = np.zeros(rows, np.bool_) if removed is None else np.unpackbits(np.load(removed), count=rows).astype(np.bool_)
    return Contents(
        index=index,
        rows=rows_of_file(paths["rows.parquet"]),
        space=space,
        kind=manifest["kind"],
        settings=manifest["settings"],
        setting=Setting(manifest["effort"], manifest["k_factor"]),
        certificate=RecallCertificate(**manifest["certificate"]),
        trained=None if trained is None else np.fromfile(trained, np.uint8),
        removed=mask,
        files={name: dict(entry) for name, entry in manifest["files"].items()},
        mapped=mapped,
    )


def _save_array(path: Path, array: npt.NDArray[np.uint8]) -> None:
    with path.open("wb") as file:
        np.save(file, array)
