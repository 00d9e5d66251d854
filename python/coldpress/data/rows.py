"""From the columns of one record to an item: shared by csv, jsonl and parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coldpress.data import location as place
from coldpress.data.source import File
from coldpress.errors import SourceError
from coldpress.types import Content, Failed, FileRef, Item, Scalar

TEXT_NAMES = ("text", "sentence", "content", "passage", "document", "body")
IMAGE_NAMES = (
    "image",
    "image_path",
    "img",
    "img_path",
    "path",
    "file_path",
    "filepath",
    "file",
    "file_name",
    "filename",
)


@dataclass(frozen=True, slots=True)
class RowReader:
    """Turns records of one file into items, given the columns that hold content, key and label."""

    file: File
    content: str
    key: str | None
    label: str | None

    @classmethod
    def resolve(cls, file: File, names: Sequence[str]) -> RowReader:
        """Match what the user asked for with the columns that exist.

        Raises
        ------
        SourceError
            If an asked column does not exist, or if the content column cannot be told from the others.
        """
        columns = file.columns
        asked = columns.text if file.modality == "text" else columns.image
        for option, name in ((file.modality, asked), ("key", columns.key), ("label", columns.label)):
            if name is not None and names.count(name) != 1:
                problem = "no column" if name not in names else "more than one column"
                raise SourceError(
                    f"{file.location}: {problem} '{name}'; its columns are {_listed(names)} "
                    f"(--{option}-column, Columns({option}=...))"
                )
        label = columns.label or ("label" if names.count("label") == 1 else None)
        return cls(file, asked or _detect(file, names), columns.key, label)

    @property
    def used(self) -> list[str]:
        """The columns that have to be read, each once."""
        return list(dict.fromkeys(name for name in (self.content, self.key, self.label) if name is not None))

    def item(self, number: int, row: Mapping[str, object]) -> Item:
        """The item of the record on line `number`, failed where a value is missing or of the wrong type."""
        metadata = {} if self.label is None else {self.label: _scalar(row.get(self.label))}
        content: Content | Failed
        if self.content in row:
            content = self._content(row[self.content])
        else:
            content = Failed(f"no column '{self.content}' in this record")
        key = self.file.item_key(number)
        if self.key is not None:
            value = row.get(self.key)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                key = str(value)
            else:
                content = Failed(f"no key: column '{self.key}' is {_kind(value)}, expected a string or an integer")
        return Item(key, content, self.file.item_source(number), metadata)

    def failed(self, number: int, reason: str) -> Item:
        """The item of a record that could not be read at all."""
        metadata: dict[str, Scalar] = {} if self.label is None else {self.label: None}
        return Item(self.file.item_key(number), Failed(reason), self.file.item_source(number), metadata)

    def _content(self, value: object) -> Content | Failed:
        if isinstance(value, Failed):
            return value
        return self._text(value) if self.file.modality == "text" else self._image(value)

    def _text(self, value: object) -> str | Failed:
        if isinstance(value, bytes):
            return decode(value)
        if isinstance(value, str):
            return value
        return Failed(f"column '{self.content}' is {_kind(value)}, expected a string")

    def _image(self, value: object) -> bytes | FileRef | Failed:
        if isinstance(value, Mapping):  # as Hugging Face datasets store images: the bytes, else the path
            data = value.get("bytes")
            return self._image(value.get("path") if data is None else data)
        if isinstance(value, bytes):
            return value
        if isinstance(value, str) and value:
            return FileRef(place.join(place.parent(self.file.location), value))
        return Failed(f"column '{self.content}' is {_kind(value)}, expected the path or the bytes of an image")


def decode(raw: bytes) -> str | Failed:
    """UTF-8 bytes as text, or why they are not."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return Failed(f"not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start} ({error.reason})")


def _detect(file: File, names: Sequence[str]) -> str:
    usual = TEXT_NAMES if file.modality == "text" else IMAGE_NAMES
    found = [name for name in names if name.lower() in usual]
    if len(found) == 1:
        return found[0]
    if len(names) == 1:
        return names[0]
    problem = f"{_listed(found)} could all hold" if found else "none is known to hold"
    raise SourceError(
        f"{file.location}: columns are {_listed(names)}, {problem} the {file.modality}; "
        f"name it with --{file.modality}-column (Columns({file.modality}=...))"
    )


def _scalar(value: object) -> Scalar:
    """A label as it can be stored in one column: nested values become their JSON text."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Failed):
        return None
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else json.dumps(value, default=str)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return "empty" if value == "" else type(value).__name__


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:20]) + (" ..." if len(names) > 20 else "")
