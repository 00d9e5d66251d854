"""Which labelled items are judged, and what of them is compared: outputs of one or several stores, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError
from coldpress.probes.features import Features
from coldpress.probes.labels import LabelSource, read_labels
from coldpress.probes.splits import FOLDS, check_classes, fold_numbers

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Contender:
    """An output of a store that is compared, and the row of each item in it."""

    name: str
    store: EmbeddingStore
    output: str
    rows: npt.NDArray[np.int64]

    @property
    def features(self) -> Features:
        """Its vectors of the items."""
        return Features.of(self.store, self.rows, self.output)


@dataclass(frozen=True, eq=False)
class Draw:
    """N items, of `labelled` ones: their classes as numbers (N,), and the fold (N,) in which each is held out."""

    contenders: tuple[Contender, ...]
    classes: tuple[str | int, ...]
    codes: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]
    labelled: int


def draw(stores: Sequence[EmbeddingStore], labels: LabelSource, outputs: Sequence[str], most: int, seed: int) -> Draw:
    """Draw at most so many labelled items of the first store, and find them in all.

    Raises
    ------
    ColdpressError
        Labels not found or unusable, fewer than two classes, a class with one item, an output or an item that a store
        lacks.
    """
    first = stores[0]
    known = read_labels(first, labels)
    check_classes(known, least=2)
    classes, codes = np.unique(known.values, return_inverse=True)
    places = _some(codes, most, np.random.default_rng(seed))
    rows, codes = known.rows[places], codes[places]
    keys = [str(first.keys[row]) for row in rows] if len(stores) > 1 else []
    contenders: dict[str, Contender] = {}
    for store in stores:
        own = rows if store is first else np.asarray([store.row(key) for key in keys], dtype=np.int64)
        for output in _wanted(store, outputs):
            name = output if len(stores) == 1 else f"{PurePath(store.path).name.removesuffix('.store')} {output}"
            name = name if name not in contenders else f"{store.path} {output}"
            contenders[name] = Contender(name, store, output, own)
    return Draw(tuple(contenders.values()), tuple(classes.tolist()), codes, fold_numbers(codes, seed), len(known.rows))


def _some(codes: Array, most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Places of all items, or of a random `most` of them with as many of each class as folds need, ascending."""
    if len(codes) <= most:
        return np.arange(len(codes))
    order = rng.permutation(len(codes))
    kept = np.concatenate([order[codes[order] == code][:FOLDS] for code in np.unique(codes)])
    rest = order[~np.isin(order, kept)]
    return np.sort(np.concatenate([kept, rest[: max(0, most - len(kept))]]))


def _wanted(store: EmbeddingStore, outputs: Sequence[str]) -> list[str]:
    pooled = [name for name in store.outputs if name not in store.ragged]
    wanted = [name for name in pooled if not outputs or name in outputs]
    if not wanted:
        raise ColdpressError(
            f"{store.path} has no output {', '.join(outputs) or 'with a vector an item'}: expected"
            f" {', '.join(pooled) or 'pooled, embed with --output pooled'}"
        )
    return wanted
