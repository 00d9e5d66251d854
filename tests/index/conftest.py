"""Stores to index, written and read by the real thing."""

from __future__ import annotations

import numpy as np
import pytest

from coldpress.store import EmbeddingStore, StoreWriter
from coldpress.types import Fingerprint, Item, Outcome, Results, TextInput


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """Function of vectors (N, D), or of several outputs by name, and optionally keys and a metadata mapping a row."""

    def make(vectors, keys=None, *, shard_rows=5000, dtype=None, metadata=None, fingerprint=None):
        outputs = vectors if isinstance(vectors, dict) else {"pooled": vectors}
        outputs = {name: np.asarray(matrix) for name, matrix in outputs.items()}
        first = next(iter(outputs.values()))
        keys = keys or [f"item {row}" for row in range(len(first))]
        items = [Item(key, key, key, extra) for key, extra in zip(keys, metadata or [{}] * len(keys), strict=True)]
        path = tmp_path_factory.mktemp("store")
        with StoreWriter(
            path,
            fingerprint=Fingerprint(fingerprint or {"weights": "abc", "pooling": "mean"}),
            dims={name: matrix.shape[1] for name, matrix in outputs.items()},
            dtype=dtype or ("float16" if first.dtype == np.float16 else "float32"),
            shard_rows=shard_rows,
            model="tiny",
            source="memory",
            description={},
        ) as writer:
            for start in range(0, len(items), shard_rows):
                part = items[start : start + shard_rows]
                stop = start + len(part)
                inputs = [TextInput(np.zeros(1, np.int32), item.key, 1, False) for item in part]
                rows = {name: matrix[start:stop].astype(np.float32) for name, matrix in outputs.items()}
                writer.write(
                    Results(part, inputs, [Outcome(item.key, "ok") for item in part], [None] * len(part), rows)
                )
            writer.finish()
        return EmbeddingStore(path)

    return make


@pytest.fixture(scope="session")
def vectors_in_clusters():
    """12,000 float16 vectors of width 24 around 300 centres."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(300, 24))
    return (centres[rng.integers(0, 300, 12_000)] + 0.5 * rng.normal(size=(12_000, 24))).astype(np.float16)


@pytest.fixture(scope="session")
def clustered(make_store, vectors_in_clusters):
    """A store of `vectors_in_clusters` in three shards."""
    return make_store(vectors_in_clusters)
