"""What the hits of a search stand for: label and text, found again through the store."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coldpress import EmbeddingStore, VectorIndex

_LINES = (".txt", ".jsonl", ".ndjson")


class Originals:
    """Looks keys up in a store, which has to be of the same space as the index.

    Raises
    ------
    FingerprintMismatch
        If it is not.
    """

    def __init__(self, store: str, index: VectorIndex) -> None:
        from coldpress import EmbeddingStore

        self._store: EmbeddingStore = EmbeddingStore(store)
        index.check(self._store.fingerprint)

    def of(self, key: str) -> dict[str, Any]:
        """``label`` and ``text`` of an item, as far as they can be found; an item of another store has neither."""
        row = self._store.keys.find(key)
        if row is None:
            return {}
        metadata = self._store.metadata.slice(row, 1)
        values = {"label": metadata.column("label")[0].as_py()} if "label" in metadata.column_names else {}
        return values | {"text": read_text(metadata.column("source")[0].as_py() or "")}


def read_text(source: str) -> str | None:
    """The text at ``file.txt:17`` or ``file.jsonl:17``; None where the file is elsewhere or of another format."""
    location, _, number = source.rpartition(":")
    path = Path(location)
    if path.suffix.lower() not in _LINES or not number.isdecimal() or not path.is_file():
        return None
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = next(islice(file, int(number) - 1, None), "")
    return line.strip() if path.suffix.lower() == ".txt" else _longest_text(line)


def _longest_text(line: str) -> str | None:
    """The longest value of a record: its text, without asking which column that was."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    texts = [value for value in record.values() if isinstance(value, str)] if isinstance(record, dict) else []
    return max(texts, key=len, default=None)
