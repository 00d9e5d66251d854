"""A monitor to a directory and back, without pickle.

::

    MONITOR/
      monitor.safetensors   # vectors, and in its header everything else: one file, replaced by one rename
      monitor.json          # the header again, for people and other tools; never read back
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.numpy
from safetensors import SafetensorError, safe_open

from coldpress.drift.kernel import RandomFeatures
from coldpress.drift.mmd import Verdict
from coldpress.drift.reference import Reference
from coldpress.drift.sample import Floats
from coldpress.drift.windows import Window
from coldpress.errors import StoreError
from coldpress.store.files import write_atomically
from coldpress.types import Fingerprint

FORMAT = "coldpress-drift-monitor"
VERSION = 1
TENSORS = "monitor.safetensors"
DESCRIPTION = "monitor.json"


def save(directory: Path, reference: Reference, pending: Floats, header: Mapping[str, Any]) -> None:
    """Write everything; raises StoreError where that is not possible."""
    fingerprint = None if reference.fingerprint is None else dict(reference.fingerprint.fields)
    told = {
        "format": FORMAT,
        "version": VERSION,
        "reference_rows": reference.rows,
        "dim": reference.dim,
        "fingerprint": fingerprint,
        **header,
    }
    tensors = {"sample": reference.sample, "frequencies": reference.features.frequencies, "pending": pending}
    text = json.dumps(told, indent=2, sort_keys=True)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / TENSORS, safetensors.numpy.save(tensors, metadata={"coldpress": text}))
        write_atomically(directory / DESCRIPTION, (text + "\n").encode())
    except OSError as error:
        raise StoreError(f"cannot save the monitor to {directory}: {error}; choose a writable directory") from error


def is_monitor(directory: Path) -> bool:
    """Whether `save` has written there."""
    return (directory / TENSORS).is_file()


def read(directory: Path) -> tuple[Reference, Floats, dict[str, Any]]:
    """The reference, the rows that wait, and the header; errors as :func:`explained` has them."""
    path = directory / TENSORS
    if not path.is_file():
        raise StoreError(f"{directory} is not a drift monitor, it has no {TENSORS}: DriftMonitor.save makes one")
    with safe_open(path, framework="np") as file:
        header = json.loads((file.metadata() or {})["coldpress"])
        found = (header["format"], header["version"])
        if found != (FORMAT, VERSION):
            raise StoreError(f"{path} has format {found}, expected {(FORMAT, VERSION)}: use the coldpress it is from")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    fields = header["fingerprint"]
    fingerprint = None if fields is None else Fingerprint(fields)
    features = RandomFeatures(tensors["frequencies"])
    return Reference(tensors["sample"], features, header["reference_rows"], fingerprint), tensors["pending"], header


@contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turn whatever is wrong with the file into a StoreError."""
    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{directory / TENSORS} is damaged or not a monitor ({error!r}): make it again") from error


def window_to_json(window: Window) -> dict[str, Any]:
    """As plain JSON values."""
    v = window.verdict
    numbers = {"statistic": v.statistic, "threshold": v.threshold, "p_value": v.p_value, "level": v.level}
    return {"name": window.name, "items": window.items, "ended": window.ended, **numbers}


def window_from_json(found: Mapping[str, Any]) -> Window:
    """Its inverse."""
    numbers = (found["statistic"], found["threshold"], found["p_value"], found["level"])
    return Window(found["name"], found["items"], Verdict(*numbers), found["ended"])
