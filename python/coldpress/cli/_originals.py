"""What keys stand for: labels, texts and small pictures, found again through the store."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldpress.errors import ColdpressError
from coldpress.report.items import Original

if TYPE_CHECKING:
    from coldpress import EmbeddingStore

_LINES, _RECORDS = (".txt", ".jsonl", ".ndjson"), (".csv", ".tsv")
_SIDE, _MOST_PIXELS = 240, 100_000_000
"""Of a small picture, of 8 kB; and of an image that is opened for one."""


def find_originals(store: EmbeddingStore, keys: Iterable[str], *, pictures: bool = False) -> dict[str, Original]:
    """Texts and, if asked for, small pictures of items, as far as they can be found; each file is read once.

    Keys that the store does not hold are left out.
    """
    rows = {key: row for key in keys if (row := store.keys.find(key)) is not None}
    columns = [name for name in ("source", "text") if name in store.columns]
    known = store.take_metadata(list(rows.values()), columns).to_pylist()
    texts = _texts(one.get("source") or "" for one in known if not one.get("text"))
    pictures = pictures and store.description.get("modality") == "image"
    found = {}
    for key, one in zip(rows, known, strict=True):
        source = one.get("source") or ""
        found[key] = Original(one.get("text") or texts.get(source), _picture(source) if pictures else None)
    return found


def labels_and_texts(store: EmbeddingStore, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``label`` and ``text`` of items as far as they can be found; an item of another store has neither."""
    found = find_originals(store, keys)
    columns = [name for name in ("label",) if name in store.columns]
    known = store.take_metadata([store.row(key) for key in found], ["key", *columns]).to_pylist()
    return {
        key: {**{name: one[name] for name in columns}, "text": original.text}
        for (key, original), one in zip(found.items(), known, strict=True)
    }


def _texts(sources: Iterable[str]) -> dict[str, str]:
    """The texts at ``file.txt:17``, also of .jsonl and .csv; none of files that are elsewhere or of another format."""
    wanted = defaultdict[str, set[int]](set)
    for source in sources:
        location, _, line_number = source.rpartition(":")
        if location.lower().endswith((*_LINES, *_RECORDS)) and line_number.isdecimal():
            wanted[location].add(int(line_number))
    found = {}
    for location, numbers in wanted.items():
        last = max(numbers)
        try:
            for number, text in _numbered(location, numbers):
                if number > last:
                    break
                if text:
                    found[f"{location}:{number}"] = text
        except (OSError, ColdpressError):
            continue
    return found


def _numbered(location: str, numbers: Container[int]) -> Iterator[tuple[int, str | None]]:
    """All line numbers of a file at which something begins, with the text of those that are asked for."""
    if location.lower().endswith(_RECORDS):
        from coldpress.data.csv import records_of

        for number, fields in records_of(location):
            yield number, max(fields, key=len) if number in numbers else None
        return
    read = str.strip if location.lower().endswith(".txt") else _longest_text
    with Path(location).open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            yield number, read(line) if number in numbers else None


def _longest_text(line: str) -> str | None:
    """The longest value of a record: its text, without asking which column that was."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    texts = [value for value in record.values() if isinstance(value, str)] if isinstance(record, dict) else []
    return max(texts, key=len, default=None)


def _picture(source: str) -> bytes | None:
    from coldpress.preprocess.thumbnail import thumbnail

    try:
        return thumbnail(Path(source), _SIDE, _MOST_PIXELS)
    except (OSError, ValueError):
        return None
