"""Predictions of a head for a store, and the files they can be written to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from coldpress.errors import StoreError

if TYPE_CHECKING:
    from coldpress import EmbeddingStore
    from coldpress.probes import Head


@dataclass(frozen=True, slots=True)
class Predictions:
    """One entry per row of the store: its key, the most probable class, and how probable that is."""

    keys: list[str]
    labels: list[str | int]
    probabilities: list[float]

    @classmethod
    def of(cls, head: Head, store: EmbeddingStore) -> Predictions:
        """Apply `head` to every row of `store`.

        Raises
        ------
        FingerprintMismatch
            If the store holds vectors of another space.
        """
        probabilities = head.predict_proba(store)
        best = probabilities.argmax(axis=1) if len(probabilities) else np.empty(0, np.int64)
        highest = np.take_along_axis(probabilities, best[:, None], axis=1)[:, 0]
        return cls(list(store.keys), [head.classes[i] for i in best], highest.round(6).tolist())

    def to_json(self) -> list[dict[str, Any]]:
        """One object per row."""
        rows = zip(self.keys, self.labels, self.probabilities, strict=True)
        return [{"key": key, "prediction": label, "probability": p} for key, label, p in rows]

    def table(self) -> pa.Table:
        """The same as an Arrow table."""
        return pa.table({"key": self.keys, "prediction": self.labels, "probability": self.probabilities})


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write a file of the format that the ending of `path` names, one of `WRITERS`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[path.suffix.lower()](path, predictions)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; choose a writable place") from error


def _write_jsonl(path: Path, predictions: Predictions) -> None:
    import json

    path.write_text("".join(json.dumps(row) + "\n" for row in predictions.to_json()), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, Predictions], None]] = {
    ".csv": lambda path, predictions: pyarrow.csv.write_csv(predictions.table(), str(path)),
    ".jsonl": _write_jsonl,
    ".parquet": lambda path, predictions: pyarrow.parquet.write_table(predictions.table(), str(path)),
}
