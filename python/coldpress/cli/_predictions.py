"""Predictions of a head for a store, and the files they can be written to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    """One entry per row of the store: its key, what is predicted, and how probable that is.

    Of classes the most probable one; of several labels an item a list of those that are more probable than not, and the
    probability of the least probable of them, 1 where there is none; of numbers the number, without a probability.
    """

    keys: list[str]
    labels: list[Any]
    probabilities: list[float] | None

    @classmethod
    def of(cls, head: Head, store: EmbeddingStore) -> Predictions:
        """Apply `head` to every row of `store`.

        Raises
        ------
        FingerprintMismatch
            If the store holds vectors of another space.
        """
        keys = list(store.keys)
        if head.task == "regress":
            return cls(keys, head.predict(store).tolist(), None)
        probabilities = head.predict_proba(store)
        if head.task == "multilabel":
            yes = probabilities > 0.5
            least = np.where(yes, probabilities, 1.0).min(axis=1, initial=1.0)
            names = [[head.classes[place] for place in np.flatnonzero(row)] for row in yes]
            return cls(keys, names, least.round(6).tolist())
        best = probabilities.argmax(axis=1) if len(probabilities) else np.empty(0, np.int64)
        highest = np.take_along_axis(probabilities, best[:, None], axis=1)[:, 0]
        return cls(keys, [head.classes[i] for i in best], highest.round(6).tolist())

    def to_json(self) -> list[dict[str, Any]]:
        """One object per row."""
        if self.probabilities is None:
            return [{"key": key, "prediction": label} for key, label in zip(self.keys, self.labels, strict=True)]
        rows = zip(self.keys, self.labels, self.probabilities, strict=True)
        return [{"key": key, "prediction": label, "probability": p} for key, label, p in rows]

    def table(self) -> pa.Table:
        """The same as an Arrow table."""
        probabilities = {} if self.probabilities is None else {"probability": self.probabilities}
        return pa.table({"key": self.keys, "prediction": self.labels, **probabilities})


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


def _flat(predictions: Predictions) -> Predictions:
    """Lists as their JSON text, which is how labels are read again."""
    import json

    labels = [json.dumps(label) if isinstance(label, list) else label for label in predictions.labels]
    return replace(predictions, labels=labels)


WRITERS: dict[str, Callable[[Path, Predictions], None]] = {
    ".csv": lambda path, predictions: pyarrow.csv.write_csv(_flat(predictions).table(), str(path)),
    ".jsonl": _write_jsonl,
    ".parquet": lambda path, predictions: pyarrow.parquet.write_table(predictions.table(), str(path)),
}
