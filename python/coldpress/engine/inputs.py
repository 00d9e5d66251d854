"""Items as users have them in memory: what they are to the preprocessing, and what must not fail."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import PIL.Image

from coldpress.engine.options import default_workers
from coldpress.engine.stages import ordered_map
from coldpress.errors import ColdpressError, ItemError
from coldpress.preprocess import Preprocessor
from coldpress.types import Content, Failed, FileRef, KnownInput, Modality, ModelInput


def as_contents(items: Sequence[Any] | npt.NDArray[Any], modality: Modality) -> list[Content]:
    """Return items as contents: paths of images as files, strings of numpy as texts; one item alone is refused."""
    if isinstance(items, str | bytes | Path | Mapping | PIL.Image.Image):
        raise ColdpressError(f"got one {type(items).__name__}, expected a list of items")
    return [_content(item, modality) for item in items]


def prepare_chunks(
    preprocess: Preprocessor, contents: Sequence[Content], size: int
) -> Iterator[Sequence[ModelInput | Failed]]:
    """Prepare contents, at most `size` at a time and in order, each chunk on as many threads as a run has for all."""
    workers = default_workers(preprocess.modality)
    piece = max(1, min(size, len(contents)) // workers)
    parts = [contents[i : i + piece] for i in range(0, len(contents), piece)]
    prepared = ordered_map(preprocess, parts, max(1, min(workers, len(parts))))
    while chunk := list(chain.from_iterable(islice(prepared, size // piece))):
        yield chunk


def _content(item: Any, modality: Modality) -> Content:
    if modality == "image" and isinstance(item, str | os.PathLike):
        return FileRef(os.fspath(item))
    return cast(Content, str(item) if isinstance(item, np.str_) else item)


def all_good(inputs: Sequence[ModelInput | KnownInput | Failed], first: int) -> list[ModelInput]:
    """Return the inputs, or raise ItemError at one that failed; `first` is the number of the first."""
    for i, prepared in enumerate(inputs):
        if isinstance(prepared, Failed):
            raise ItemError(f"item {first + i} cannot be embedded: {prepared.reason}")
    return cast(list[ModelInput], list(inputs))
