"""`EmbeddingMap`: a sample of an index laid out in the plane, kept beside it in ``map.parquet``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from coldpress.errors import ColdpressError, StoreError
from coldpress.store.files import write_atomically

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

FILE = "map.parquet"
ROWS = 2000
"""They take about 5 s on two cores, and are as many as can be told apart on a screen."""

_SPACE = b"fingerprint"


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Items in the plane: near ones stay near, distances between clusters mean little.

    Attributes
    ----------
    keys : of N items.
    points : (N, 2) float32, between -1 and 1.
    fingerprint : digest of the space that they are of.
    """

    keys: Sequence[str]
    points: npt.NDArray[np.float32]
    fingerprint: str

    def save(self, directory: str | Path) -> None:
        """Write it into the directory of an index, in place of one that is there.

        Raises
        ------
        StoreError
            The directory cannot be written.
        """
        table = pa.table(
            {"key": pa.array(self.keys, pa.large_string()), "x": self.points[:, 0], "y": self.points[:, 1]}
        )
        file = BytesIO()
        pq.write_table(table.replace_schema_metadata({_SPACE: self.fingerprint.encode()}), file)
        try:
            write_atomically(Path(directory) / FILE, file.getvalue())
        except OSError as error:
            raise StoreError(f"cannot save the map to {directory}: {error}") from error

    @classmethod
    def open(cls, directory: str | Path) -> EmbeddingMap | None:
        """The map in the directory of an index; None if there is none.

        Raises
        ------
        StoreError
            It is damaged.
        """
        path = Path(directory) / FILE
        if not path.is_file():
            return None
        try:
            table = pq.read_table(path)
            points = np.stack([table.column(name).to_numpy() for name in ("x", "y")], axis=1).astype(np.float32)
            space = (table.schema.metadata or {})[_SPACE].decode()
            return cls([str(key) for key in table.column("key").to_pylist()], points, space)
        except (pa.ArrowException, KeyError, ValueError, OSError) as error:
            raise StoreError(f"{path} is damaged ({error!r}): index the store with --map again") from error


def draw_map(
    store: EmbeddingStore, output: str | None = None, *, rows: npt.NDArray[np.int64] | None = None, seed: int = 0
) -> EmbeddingMap:
    """Lay out rows of a store, by default all, drawn at random where they are more than `ROWS`.

    Raises
    ------
    ColdpressError
        The store holds fewer than four rows, or bits instead of numbers.
    """
    from coldpress.probes.projection import project

    among = np.arange(len(store)) if rows is None else rows
    if len(among) < 4:
        raise ColdpressError(f"a map takes at least 4 rows, the store has {len(among)}: leave --map out")
    rng = np.random.default_rng(seed)
    rows = among[np.sort(rng.choice(len(among), size=min(ROWS, len(among)), replace=False))]
    matrix: Any = store.output(output or store.default_output)
    points = project(np.asarray(matrix[rows], np.float32), seed=seed)
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    extent = float(np.abs(points - middle).max()) or 1.0
    return EmbeddingMap([str(key) for key in store.keys[rows]], (points - middle) / extent, store.fingerprint.digest)
