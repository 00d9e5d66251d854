"""Stores to train on, written and read by the real thing."""

from __future__ import annotations

import numpy as np
import pytest

from coldpress.store import EmbeddingStore, StoreWriter
from coldpress.types import Fingerprint, Item, Outcome, Results, TextInput


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """Function of vectors (N, D), options and metadata columns: a store of them in shards of 50."""

    def make(vectors, *, space="abc", prefix="item", hashes=None, shard_rows=50, **columns):
        vectors = np.asarray(vectors)
        columns = {name: np.asarray(values, dtype=object).tolist() for name, values in columns.items()}
        rows = [{name: values[row] for name, values in columns.items()} for row in range(len(vectors))]
        items = [Item(f"{prefix} {row}", "text", "", metadata) for row, metadata in enumerate(rows)]
        hashes = hashes or [f"{prefix} {row}" for row in range(len(vectors))]
        path = tmp_path_factory.mktemp("store")
        with StoreWriter(
            path,
            fingerprint=Fingerprint({"weights": space}),
            dims={"pooled": vectors.shape[1]},
            dtype="float16" if vectors.dtype == np.float16 else "float32",
            shard_rows=shard_rows,
            model="tiny",
            source="memory",
            description={},
        ) as writer:
            for start in range(0, len(items), shard_rows):
                part = items[start : start + shard_rows]
                stop = start + len(part)
                inputs = [TextInput(np.zeros(1, np.int32), content, 1, False) for content in hashes[start:stop]]
                outcomes = [Outcome(item.key, "ok") for item in part]
                rows = {"pooled": vectors[start:stop].astype(np.float32)}
                writer.write(Results(part, inputs, outcomes, [None] * len(part), rows))
            writer.finish()
        return EmbeddingStore(path)

    return make


@pytest.fixture(scope="session")
def sample():
    """Function of rows, classes and seed: float16 vectors (N, 12), overlapping by class, and int labels (N,)."""

    def draw(rows, classes=3, seed=0, spread=1.0):
        centres = np.random.default_rng(99).normal(size=(classes, 12))
        rng = np.random.default_rng(seed)
        labels = np.arange(rows) % classes
        return (centres[labels] + spread * rng.normal(size=(rows, 12))).astype(np.float16), labels

    return draw
