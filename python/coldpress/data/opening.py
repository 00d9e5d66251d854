"""From what the user names (directories, files, patterns, URLs, Python objects) to one source."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

from coldpress._urls import is_url, normalise
from coldpress.data import location as place
from coldpress.data import pattern as patterns
from coldpress.data.folder import FilesSource, FolderSource, Selection
from coldpress.data.frames import open_table
from coldpress.data.huggingface import open_dataset
from coldpress.data.memory import MemorySource
from coldpress.data.source import Columns, Concatenated, File, Limited, Source, directory_format, format_of, formats
from coldpress.errors import SourceError
from coldpress.types import Modality

_FIND_OUT = Columns()


def open_source(
    spec: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Iterable[Any] | Source,
    *,
    modality: Modality,
    columns: Columns = _FIND_OUT,
    limit: int | None = None,
) -> Source:
    r"""Open whatever holds texts or images as one ordered source of items.

    Parameters
    ----------
    spec
        A directory of images or one saved by Hugging Face ``datasets``, a file, a brace or glob pattern, a fsspec URL
        of any of these, or a list or tuple of them, which are read one after the other. A table (pandas, polars,
        pyarrow, DuckDB) or a ``datasets.Dataset`` gives its rows. Anything else that can be iterated over, or has items
        by number as PyTorch datasets do, holds the items themselves, see `MemorySource`; use that class directly for a
        list of texts. A `Source` is passed through.
    modality
        What the model takes, ``"text"`` or ``"image"``. For images, files of a known record format (``.csv``,
        ``.jsonl``, ``.parquet``, ``.arrow``, ``.tar``, ``.txt``) list images or hold them; every other named file is
        an image. Text files and tars may be compressed (``.jsonl.gz``, ``.tar.zst``).
    columns
        Which columns to read from files, datasets and tables that have them.
    limit
        Take only so many items from the front.

    Returns
    -------
    Source
        Keys are unique: paths relative to the directory (or to the fixed part of the pattern) for images found,
        the path as given for image files named one by one, ``file.jsonl:17`` for records, ``shard.tar/name`` for
        samples, ``"0"``, ``"1"``... for what is in memory. Several directories put their names in front.

    Raises
    ------
    SourceError
        If something does not exist, cannot be listed, holds nothing of that modality, is named twice, or if the
        columns to read are in doubt.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "notes.txt"
    >>> _ = file.write_text("first\nsecond\n")
    >>> [(item.key, item.content) for item in open_source(file, modality="text").items()]
    [('notes.txt:1', 'first'), ('notes.txt:2', 'second')]
    """
    source = _open(spec, modality, columns)
    return source if limit is None else Limited(source, limit)


def _open(spec: Any, modality: Modality, columns: Columns) -> Source:
    specs = [spec] if isinstance(spec, str | os.PathLike) else spec
    if not (isinstance(specs, list | tuple) and all(isinstance(one, str | os.PathLike) for one in specs)):
        return _open_object(spec, modality, columns)
    locations = [normalise(one) for one in specs]
    if not locations:
        raise SourceError("no source given; name a directory, a file, a pattern or a URL")
    repeated = next((one for one, times in Counter(locations).items() if times > 1), None)
    if repeated is not None:
        of = " (strings name files; texts themselves are a MemorySource)" if modality == "text" else ""
        raise SourceError(
            f"{repeated}: named {locations.count(repeated)} times, expected once: keys must be unique{of}"
        )
    opener = _Opener(modality, columns)
    for location, name in zip(locations, _names(locations), strict=True):
        opener.add(location, name, alone=len(locations) == 1)
    opener.check_keys()
    sources = opener.finish()
    return sources[0] if len(sources) == 1 else Concatenated(sources)


def _open_object(value: Any, modality: Modality, columns: Columns) -> Source:
    if _is_source(value):
        return cast(Source, value)
    table = open_dataset(value, modality, columns) or open_table(value, modality, columns)
    return table or MemorySource(value, modality)


def _is_source(value: object) -> bool:
    """Whether `value` follows the protocol: pandas objects have `items` and `count` too, but no `start`."""
    items = getattr(value, "items", None)
    try:
        return callable(items) and "start" in inspect.signature(items).parameters
    except ValueError:  # a built-in without a signature
        return False


def _names(locations: Sequence[str]) -> list[str]:
    """A short name for each spec: its last component, or the whole of it where two would be the same."""
    roots = [patterns.split_root(one)[0] if patterns.is_pattern(one) else one for one in locations]
    short = [place.base_name(root) for root in roots]
    times = Counter(short)
    return [name if times[name] == 1 else _as_given(one) for name, one in zip(short, locations, strict=True)]


def _as_given(location: str) -> str:
    return location if is_url(location) else place.printable(str(PurePosixPath(Path(location).as_posix())))


@dataclass
class _Opener:
    """Collects sources; neighbouring image files become one source instead of thousands."""

    modality: Modality
    columns: Columns
    sources: list[Source] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)

    def add(self, location: str, name: str, *, alone: bool) -> None:
        """Open one spec; `name` is its short name, put in front of keys unless the spec stands alone."""
        found = place.kind(location)
        if found == "directory":
            self._directory(location, name, "" if alone else f"{name}/")
        elif found == "file":
            self._file(location, key=_as_given(location), name=name)
        elif patterns.is_pattern(location):
            self._pattern(location, "" if alone else f"{name}/")
        else:
            advice = (
                "; for texts themselves name a .txt file of them, in Python coldpress.data.MemorySource(texts, 'text')"
            )
            hint = advice if " " in location else ""
            raise SourceError(f"{place.printable(location[:200])}: no such file or directory{hint}")

    def check_keys(self) -> None:
        """Refuse a file that is named next to its own directory: both would give it the same key."""
        for prefix in filter(None, self.prefixes):
            inside = next((key for key in self.named if key.startswith(prefix)), None)
            if inside is not None:
                raise SourceError(f"{inside}: named by itself and, it seems, by the directory '{prefix}'; name one")

    def finish(self) -> list[Source]:
        """All sources, in the order they were added."""
        if self.files:
            self.sources.append(FilesSource(tuple(self.files)))
            self.files = []
        return self.sources

    def _directory(self, location: str, name: str, prefix: str) -> None:
        if (found := directory_format(location)) is not None:
            file = File(location.rstrip("/"), name, self.modality, self.columns, is_directory=True)
            self.finish().append(found.open(file))
            return
        if self.modality == "text":
            known = ", ".join(_record_suffixes())
            raise SourceError(
                f"{location}: is a directory, expected files of texts ({known}) or a saved Hugging Face dataset; "
                f"name the files, e.g. '{location}/**/*.txt'"
            )
        try:
            self._folder(FolderSource(location, prefix))
        except SourceError as error:
            record = next((path for path in place.walk(location) if format_of(path)), None)
            if record is None:
                raise
            hint = f"{location}/**/*{record[record.index('.', record.rfind('/') + 1) :]}"
            raise SourceError(
                f"{error}; it holds {place.printable(record)}: to read such files name '{hint}'"
            ) from None

    def _folder(self, folder: FolderSource) -> None:
        self.prefixes.append(folder.prefix)
        self.finish().append(folder)

    def _file(self, location: str, *, key: str, name: str) -> None:
        found = format_of(location)
        if found is not None:
            self.finish().append(found.open(File(location, name, self.modality, self.columns)))
        elif self.modality == "image":
            self.files.append((key, location))
            self.named.append(key)
        else:
            raise SourceError(f"{location}: not a known text format, expected one of {', '.join(_record_suffixes())}")

    def _pattern(self, pattern: str, prefix: str) -> None:
        root, relative = patterns.split_root(pattern)
        for expanded in patterns.expand_braces(relative):
            location = place.join(root, expanded)
            if patterns.is_glob(expanded):
                self._glob(root, expanded, prefix)
            elif (found := place.kind(location)) == "directory":
                self._directory(location, prefix + expanded, f"{prefix}{expanded}/")
            elif found == "file":
                self._file(location, key=prefix + expanded, name=prefix + expanded)
            else:
                raise SourceError(f"{location}: no such file, named by the pattern {pattern}")

    def _glob(self, root: str, relative: str, prefix: str) -> None:
        match, depth = patterns.compile_glob(relative), patterns.depth(relative)
        if self.modality == "image" and format_of(relative) is None:
            # "*.heic" asks for a suffix of its own; "*" and "*.*" mean the images among the files.
            names_suffix = any(c.isalnum() for c in PurePosixPath(relative).suffix)
            self._folder(FolderSource(root, prefix, Selection(match, depth, names_suffix)))
            return
        matching = list(self._matching(root, match, depth))
        if not matching:
            raise SourceError(f"{place.join(root, relative)}: no file matches (hidden files are skipped)")
        for found in matching:
            self._file(place.join(root, found), key=prefix + found, name=prefix + place.printable(found))

    @staticmethod
    def _matching(root: str, match: Any, depth: int | None) -> Iterator[str]:
        return (found for found in place.walk(root, depth) if match.fullmatch(found))


def _record_suffixes() -> list[str]:
    return sorted(suffix for found in formats() for suffix in found.suffixes)
