"""From the columns of one record to an item: shared by every format that has columns."""

from __future__ import annotations

import datetime
import decimal
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coldpress.data import location as place
from coldpress.data.source import File
from coldpress.errors import SourceError
from coldpress.types import Content, Failed, FileRef, Item, Scalar

logger = logging.getLogger(__name__)

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


STORE_COLUMNS = frozenset({"key", "source", "content_hash", "num_tokens", "truncated"})
"""Metadata columns that a store writes itself; ``"*"`` leaves such names out."""

LONGEST_KEY = 4096
"""Characters of a key. What is longer is no name but a mistaken column."""

_SCALARS = (str, int, float, bool, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)


@dataclass(frozen=True, slots=True)
class RowReader:
    """Turns records of one file into items, given the columns that hold content and key, and those carried along."""

    file: File
    content: str
    key: str | None
    carried: tuple[str, ...]

    @classmethod
    def resolve(cls, file: File, names: Sequence[str], scalars: Sequence[str]) -> RowReader:
        """Match what the user asked for with the columns that exist.

        Parameters
        ----------
        file
            What is being opened.
        names
            All columns.
        scalars
            Those whose values a metadata column can hold: what ``Columns(metadata="*")`` means.

        Raises
        ------
        SourceError
            If an asked column does not exist, or if the content column cannot be told from the others.
        """
        asked = file.columns.text if file.modality == "text" else file.columns.image
        check_columns(file, names, **{file.modality: asked})
        content = asked or detect(file, names)
        return cls(file, content, file.columns.key, carried(file, names, scalars, content))

    @property
    def used(self) -> list[str]:
        """The columns that have to be read, each once."""
        return list(dict.fromkeys(name for name in (self.content, self.key, *self.carried) if name is not None))

    def item(self, number: int, row: Mapping[str, object], name: str | None = None) -> Item:
        """The item of record `number`, failed where a value is missing or of the wrong type.

        Without a key column it is called after its file and its `name`, or else its number.
        """
        if self.content in row:
            content = self._content(row[self.content])
        else:
            content = Failed(f"no column '{self.content}' in this record")
        key = self.file.item_key(number) if name is None else f"{self.file.name}/{name}"
        source = self.file.item_source(number) if name is None else f"{place.printable(self.file.location)}/{name}"
        if self.key is not None:
            value = row.get(self.key)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                key = str(value)
            else:
                content = Failed(f"no key: column '{self.key}' is {_kind(value)}, expected a string or an integer")
        if len(key) > LONGEST_KEY:
            content = Failed(f"the key has {len(key):,} characters, expected at most {LONGEST_KEY:,}")
            key, source = self.file.item_key(number), self.file.item_source(number)
        return Item(key, content, source, {column: _scalar(row.get(column)) for column in self.carried})

    def failed(self, number: int, reason: str) -> Item:
        """The item of a record that could not be read at all."""
        nothing: dict[str, Scalar] = dict.fromkeys(self.carried)
        return Item(self.file.item_key(number), Failed(reason), self.file.item_source(number), nothing)

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
            return FileRef(place.join(self.file.folder, value))
        return Failed(f"column '{self.content}' is {_kind(value)}, expected the path or the bytes of an image")


def decode(raw: bytes) -> str | Failed:
    """UTF-8 bytes as text, or why they are not."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return Failed(f"not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start} ({error.reason})")


def check_columns(file: File, names: Sequence[str], **asked: str | None) -> None:
    """Refuse columns that do not exist; `asked` by the name of their option, key and label are always checked."""
    asked |= {"key": file.columns.key, "label": file.columns.label}
    wanted = [(option, name) for option, name in asked.items() if name is not None]
    if file.columns.metadata != "*":
        wanted += [("metadata", name) for name in file.columns.metadata]
    for option, name in wanted:
        if names.count(name) != 1:
            problem = "no column" if name not in names else "more than one column"
            raise SourceError(
                f"{file.location}: {problem} '{name}'; its columns are {_listed(names)} "
                f"(--{option}-column, Columns({option}=...))"
            )


def carried(file: File, names: Sequence[str], scalars: Sequence[str], content: str) -> tuple[str, ...]:
    """The columns that become metadata: the label first, each once."""
    label = file.columns.label or ("label" if names.count("label") == 1 else None)
    more = file.columns.metadata
    if more == "*":
        others = [name for name in scalars if name not in (content, file.columns.key) and names.count(name) == 1]
        if reserved := STORE_COLUMNS.intersection(others):
            logger.warning("%s: columns the store has itself are not carried: %s", file.location, _listed([*reserved]))
        more = tuple(name for name in others if name not in STORE_COLUMNS)
    return tuple(dict.fromkeys((*([label] if label is not None else ()), *more)))


def is_scalar(value: object) -> bool:
    """Whether a metadata column can hold it; null is nothing against it."""
    return value is None or isinstance(value, _SCALARS)


def detect(file: File, names: Sequence[str]) -> str:
    """The one column that by its name, or for want of another, holds the content."""
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
    """A value as it can be stored in one column: dates and decimals as written, nested values as their JSON text."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, _SCALARS):
        return str(value)
    if isinstance(value, Failed):
        return None
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else json.dumps(value, default=str)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return "empty" if value == "" else type(value).__name__


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:20]) + (" ..." if len(names) > 20 else "")
