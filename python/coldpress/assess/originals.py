"""The items behind stored vectors, found again where they were read, or in other data that the user names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.data import Columns, open_source
from coldpress.data.source import format_of
from coldpress.errors import ColdpressError, SourceError
from coldpress.preprocess.reading import hash_image
from coldpress.preprocess.text import hash_text
from coldpress.types import Content, Failed, FileRef, Item, Modality

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

_COLUMNS = ("key", "source", "content_hash")


def modality_of(store: EmbeddingStore) -> Modality:
    """What the vectors of a store are of.

    Raises
    ------
    ColdpressError
        If coldpress did not embed them.
    """
    modality: Modality | None = store.description.get("modality")
    if modality is None:
        raise ColdpressError(f"the vectors of {store.path} were not made by coldpress embed")
    return modality


def find_originals(
    store: EmbeddingStore, rows: npt.NDArray[np.int64], data: Any = None, columns: Columns | None = None
) -> list[Content]:
    """The content of each of some rows, compared with the hash that the store has of it.

    Parameters
    ----------
    data : what :func:`coldpress.data.open_source` takes; items are told by their keys. None: the files that the store
        says its items came from.
    columns : of those files, where they have to be named.

    Raises
    ------
    ColdpressError
        If one is missing or has changed.
    """
    modality, columns = modality_of(store), columns or Columns()
    table = store.take_metadata(rows, _COLUMNS)
    keys, sources, hashes = ([str(one or "") for one in table.column(name).to_pylist()] for name in _COLUMNS)
    told = keys if data is not None else sources
    if not all(told):
        raise ColdpressError("the items were in memory when they were embedded")
    items = _anew(sources, modality, columns) if data is None else _items(data, modality, columns)
    wanted: dict[str, list[int]] = {}
    for place, name in enumerate(told):
        wanted.setdefault(name, []).append(place)
    found: dict[int, Content] = {}
    for item in items:
        for place in wanted.pop(item.source if data is None else item.key, ()):
            if not isinstance(item.content, Failed) and _is(item.content, hashes[place]):
                found[place] = item.content
        if not wanted:
            break
    if len(found) < len(rows):
        where = "where they were" if data is None else "in the data"
        raise ColdpressError(f"{len(rows) - len(found):,} of {len(rows):,} items are not {where}, or have changed")
    return [found[place] for place in range(len(rows))]


def _items(data: Any, modality: Modality, columns: Columns) -> Iterable[Item]:
    return open_source(data, modality=modality, columns=columns).items()


def _anew(sources: Iterable[str], modality: Modality, columns: Columns) -> Iterator[Item]:
    """The items of every file that one of the sources (``file.jsonl:17``, ``shard.tar/name``, ``photo.jpg``) names."""
    files = dict.fromkeys(_file(source) for source in sources)
    for location, holds_many in files:
        if holds_many:
            yield from _items(location, modality, columns)
        else:
            yield Item(location, FileRef(location), location)


def _file(source: str) -> tuple[str, bool]:
    """The file that an item is in, and whether that holds several items."""
    location, _, number = source.rpartition(":")
    if location and number.isdecimal():
        return location, True
    for parent in PurePosixPath(source).parents:
        if format_of(parent.name) is not None:
            return source[: source.index(parent.name) + len(parent.name)], True
    return source, False


def _is(content: Content, expected: str) -> bool:
    if isinstance(content, str):
        return hash_text(content) == expected
    if isinstance(content, FileRef):
        try:
            content = content.read()
        except (OSError, SourceError):
            return False
    return isinstance(content, bytes | np.ndarray) and hash_image(content) == expected
