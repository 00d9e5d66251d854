"""Heads on disk, without pickle.

::

    HEAD/
      head.safetensors   # the arrays, and in its header everything else: one file, replaced by one rename
      head.json          # the header again, for people and other tools; never read back
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from coldpress.errors import StoreError
from coldpress.store.files import write_atomically

FORMAT = "coldpress-head"
VERSION = 4
WEIGHTS = "head.safetensors"
DESCRIPTION = "head.json"
MAPPED_BYTES = 1 << 20
"""Larger arrays, the vectors of nearest neighbours, stay in the file and are mapped."""

Arrays = Mapping[str, npt.NDArray[Any]]


def write_head(directory: Path, header: Mapping[str, Any], arrays: Arrays) -> None:
    """Replace the head in `directory` at once or, on failure, not at all; raises StoreError if it cannot be written."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **header}, indent=2, sort_keys=True)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / WEIGHTS, safetensors.numpy.save(contiguous, metadata={"coldpress": text}))
        write_atomically(directory / DESCRIPTION, (text + "\n").encode())
    except OSError as error:
        raise StoreError(f"cannot write the head to {directory}: {error}; choose a writable directory") from error


def read_head(directory: str | Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """The header and the arrays; raises StoreError if `directory` is not a head of this format, or damaged."""
    path = Path(directory) / WEIGHTS
    if not path.is_file():
        raise StoreError(f"{directory} is not a head, it has no {WEIGHTS}: make one with coldpress probe")
    try:
        with safe_open(path, framework="np") as file:  # which checks that the arrays fill the file
            header = json.loads((file.metadata() or {})["coldpress"])
            found = (header["format"], header["version"])
            if found != (FORMAT, VERSION):
                raise StoreError(
                    f"{path} has format {found}, expected {(FORMAT, VERSION)}: use the coldpress it is from"
                )
            arrays = _mapped(path)
            return header, arrays | {
                name: file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118 (not a dict)
                if name not in arrays
            }
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path.parent, repr(error)) from error


def damaged(directory: str | Path, why: str) -> StoreError:
    """What is raised for a head whose content does not fit together."""
    return StoreError(f"{Path(directory) / WEIGHTS} is damaged or not a head ({why}): train it again")


def _mapped(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The large arrays of a safetensors file: 8 bytes say how long its header is, and that where each array is."""
    dtypes: dict[str, npt.DTypeLike] = {"F16": "<f2", "F32": "<f4"}
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    found: dict[str, npt.NDArray[Any]] = {}
    for name, entry in entries.items():
        if name == "__metadata__" or entry["dtype"] not in dtypes:
            continue
        begin, end = entry["data_offsets"]
        if end - begin > MAPPED_BYTES:
            offset, shape = 8 + length + begin, tuple(entry["shape"])
            found[name] = np.memmap(path, np.dtype(dtypes[entry["dtype"]]), "r", offset, shape)
    return found
