"""What an index consists of, and the questions that every part of the package asks it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from coldpress.errors import ColdpressError
from coldpress.index.gpu import MOST_NEIGHBOURS, RowsOnGpus, gpu_count
from coldpress.index.plan import Kind
from coldpress.index.recall import RecallCertificate
from coldpress.index.rows import RowTable, rows_with
from coldpress.index.searching import Allowed, nearest
from coldpress.index.space import Space
from coldpress.index.tuning import Setting
from coldpress.index.vectors import Floats, Rows
from coldpress.index.where import Where, matching

logger = logging.getLogger(__name__)

_REMEMBERED = 16  # conditions whose rows are kept


@dataclass(eq=False)
class Contents:
    """Rows, and the faiss index that finds them; the one thing that changes in place.

    Attributes
    ----------
    index : of faiss, or a `SignIndex`.
    trained : bytes of the same index before its first row; None where nothing was trained.
    removed : mask of the rows that are there but not to be found.
    stale : whether rows have changed since `certificate` was measured.
    directory, files : where it was last saved or opened, and the manifest's entries of the files that still hold.
    mapped : whether `index` reads its file as it goes, and thus cannot grow.
    on_gpus : its rows there, where they are wanted.
    """

    index: Any
    rows: RowTable
    space: Space
    kind: Kind
    settings: Mapping[str, Any]
    setting: Setting
    certificate: RecallCertificate
    trained: Any
    removed: npt.NDArray[np.bool_]
    stale: bool = False
    directory: Path | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    mapped: bool = False
    on_gpus: RowsOnGpus | None = None
    _matches: dict[str, Allowed] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.removed) - int(self.removed.sum())

    def search(self, faiss: Any, queries: Floats, k: int, where: Where | None) -> tuple[Floats, Rows]:
        """Scores and rows of prepared queries."""
        allowed = self.allowed(where)
        if self.on_gpus is not None and allowed is None and k <= MOST_NEIGHBOURS:
            return self.on_gpus.search(queries, k)
        return nearest(faiss, self.index, queries, k, self.setting, allowed)

    def move(self, faiss: Any, device: str) -> None:
        """Search on GPUs or on the CPU, as `VectorIndex.to` says."""
        if device not in ("auto", "cpu", "cuda"):
            raise ColdpressError(f"device is {device!r}, expected 'auto', 'cpu' or 'cuda'")
        self.on_gpus = None
        if device == "cuda" or (device == "auto" and gpu_count(faiss)):
            try:
                self.on_gpus = RowsOnGpus(faiss, self.index)
            except ColdpressError as error:
                if device == "cuda":
                    raise
                logger.warning("%s", error)

    def allowed(self, where: Where | None) -> Allowed | None:
        """The rows that may be found; None: all of them. Conditions are remembered, expressions have no full name."""
        if where is None and not self.removed.any():
            return None
        name = None if isinstance(where, pc.Expression) else repr(where)
        if name is not None and (known := self._matches.get(name)) is not None:
            return known
        live = ~self.removed
        found = Allowed(live if where is None else live & matching(self.rows, where))
        if len(self._matches) >= _REMEMBERED:
            self._matches.clear()
        if name is not None:
            self._matches[name] = found
        return found

    def choices(self, most: int) -> dict[str, list[Any]]:
        """The values of those columns that have two to `most`, of rows that may be found, the most frequent first."""
        live = ~self.removed
        found = {name: self.rows.choices(name, live, most) for name in self.rows.columns}
        return {name: values for name, values in found.items() if len(values) > 1}

    def rows_of(self, keys: Sequence[str]) -> Rows:
        """The first row with each key that has not been removed; `ColdpressError` where there is none."""
        return np.array([self._live(*found) for found in zip(keys, self.rows.find(keys), strict=True)], np.int64)

    def keys_of(self, rows: Rows) -> npt.NDArray[np.object_]:
        """Keys (str) of rows, in their shape."""
        found = self.rows.keys.take(rows.ravel()).to_numpy(zero_copy_only=False)
        return cast("npt.NDArray[np.object_]", found.reshape(rows.shape))

    def vectors(self, rows: Rows) -> Floats:
        """Vectors (N, D) of rows, as the index keeps them."""
        return np.asarray(self.index.reconstruct_batch(np.ascontiguousarray(rows, np.int64)), np.float32)

    def _live(self, key: str, row: int | None) -> int:
        if row is not None and self.removed[row]:  # it may have come back in another row
            row = next((int(other) for other in rows_with(self.rows, [key]) if not self.removed[other]), None)
        if row is None:
            raise ColdpressError(f"key {key!r} is not among the {len(self)} keys of the index")
        return row

    def changed(self, *stale: str) -> None:
        """Forget what no longer holds, the files `stale` among it."""
        self.stale, self.on_gpus = True, None
        self._matches.clear()
        for name in stale:
            self.files.pop(name, None)
