"""Labelled items of a source that is larger than what a comparison can afford: some of them, at random."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy.typing as npt

from coldpress.errors import ColdpressError
from coldpress.probes.label_files import FILE_SUFFIXES, is_label_file
from coldpress.probes.label_values import as_array, is_missing
from coldpress.probes.labels import read_label_file
from coldpress.types import Failed, Item


@dataclass(frozen=True, slots=True)
class Drawn:
    """Items in the order of their source, and the label of each, (N,) all str or all int.

    Of the `read` items of the source so many were `labelled`, among which these were drawn.
    """

    items: tuple[Item, ...]
    labels: npt.NDArray[Any]
    read: int
    labelled: int


def draw_labelled(items: Iterable[Item], labels: str | Path, most: int, *, seed: int = 0) -> Drawn:
    """Read all items and keep at most so many of those with a label, each with the same chance.

    Never more than those are held in memory. A source in order of its labels is no problem, as its front would be.

    Parameters
    ----------
    items : what the source itself could not read is passed over.
    labels : column of the items' metadata; or a ``.csv``, ``.jsonl`` or ``.parquet`` file with columns ``key`` and
        ``label``, as for :func:`read_labels`.
    most : how many to keep.

    Raises
    ------
    ColdpressError
        No such column or file, two labels for a key, continuous labels, nothing labelled.
    """
    label_of = _labeller(labels)
    columns, keys = dict[str, None](), list[str]()
    random, kept, read, labelled = Random(seed), dict[int, tuple[int, Item, Any]](), 0, 0
    for read, item in enumerate(items, 1):
        columns |= dict.fromkeys(item.metadata)
        keys = keys or [item.key]
        label = label_of(item)
        if is_missing(label) or isinstance(item.content, Failed):
            continue
        place = labelled if labelled < most else random.randrange(labelled + 1)
        labelled += 1
        if place < most:
            kept[place] = (read, item, label)
    if not kept:
        raise ColdpressError(_nothing_labelled(labels, read, list(columns), keys))
    chosen = sorted(kept.values(), key=lambda one: one[0])
    values = as_array([label for _, _, label in chosen], str(labels))
    return Drawn(tuple(item for _, item, _ in chosen), values, read, labelled)


def _labeller(labels: str | Path) -> Callable[[Item], Any]:
    if is_label_file(labels):
        found = read_label_file(Path(labels))
        return lambda item: found.get(item.key)
    return lambda item: item.metadata.get(str(labels))


def _nothing_labelled(labels: str | Path, read: int, columns: Sequence[str], keys: Sequence[str]) -> str:
    if is_label_file(labels):
        theirs = f", such as {keys[0]!r}" if keys else ""
        return f"{labels} labels none of the {read:,} items that were read: use their keys{theirs}"
    there = f"there are {', '.join(columns)}" if columns else "the data have none"
    return (
        f"column {str(labels)!r} holds no label for the {read:,} items that were read ({there}): name a column, or a"
        f" file ending in {', '.join(FILE_SUFFIXES)}"
    )
