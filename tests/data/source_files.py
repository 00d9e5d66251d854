"""What the tests of sources share."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import fsspec
import pytest

from coldpress.data import Columns, open_source
from coldpress.errors import SourceError
from coldpress.types import Failed, Item


def read(spec: object, modality: str = "text", start: int = 0, **columns: object) -> list[Item]:
    return list(open_source(spec, modality=modality, columns=Columns(**columns)).items(start))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def reason(item: Item) -> str:
    assert isinstance(item.content, Failed), item
    return item.content.reason


def until_error(spec: object, modality: str) -> tuple[list[Item], str]:
    """The items that come before the source breaks, and what the error says."""
    found = []
    try:
        for item in open_source(spec, modality=modality).items():
            found.append(item)  # one by one: those before the error count
    except SourceError as error:
        return found, str(error)
    pytest.fail("the source did not break")


def remote(path: str, content: bytes) -> str:
    """The URL of a file in fsspec's memory file system."""
    fsspec.filesystem("memory").pipe(path, content)
    return f"memory:/{path}"


def tar(
    members: Mapping[str, bytes | dict[str, object]] | list[tuple[str, bytes]], layout: int = tarfile.PAX_FORMAT
) -> bytes:
    """An archive of files; dictionaries are written as JSON."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=layout) as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            data = json.dumps(content).encode() if isinstance(content, dict) else content
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return packed.getvalue()
