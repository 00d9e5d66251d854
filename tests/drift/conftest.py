"""Stores of vectors whose distribution is known, written and read by the real thing."""

from __future__ import annotations

import numpy as np
import pytest

from coldpress.store import EmbeddingStore, StoreWriter
from coldpress.types import Failed, Fingerprint, Item, Outcome, Results, TextInput


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """Function of vectors (N, D), options and metadata columns: a store of them, of which the first ones `failed`."""

    def make(vectors, *, space="abc", dtype="float32", shard_rows=5000, failed=0, **columns):
        vectors = np.asarray(vectors, np.float32)
        names = list(columns)
        metadata = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        metadata = metadata or [{}] * len(vectors)
        path = tmp_path_factory.mktemp("store")
        options = {"shard_rows": shard_rows, "model": "tiny", "source": "memory", "description": {}}
        with StoreWriter(
            path, fingerprint=Fingerprint({"weights": space}), dims={"pooled": vectors.shape[1]}, dtype=dtype, **options
        ) as writer:
            for start in range(0, len(vectors), shard_rows):
                rows = range(start, min(start + shard_rows, len(vectors)))
                items = [Item(f"item {row}", "text", "", metadata[row]) for row in rows]
                good = range(max(start, failed), rows.stop)
                inputs = [
                    TextInput(np.zeros(1, np.int32), f"{path} {row}", 1, False) if row in good else Failed("no text")
                    for row in rows
                ]
                outcomes = [Outcome(f"item {row}", "ok" if row in good else "failed") for row in rows]
                part = {"pooled": vectors[good.start : good.stop]}
                writer.write(Results(items, inputs, outcomes, [None] * len(good), part))
            writer.finish()
        return EmbeddingStore(path)

    return make


@pytest.fixture(scope="session")
def cloud():
    """Function of rows and seed: unit vectors (N, 24) around a common direction, as embeddings are; some `moved`."""

    def draw(rows, seed, *, moved=0):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(rows, 24)) * np.linspace(1.5, 0.3, 24) + 0.7
        x[:moved] = rng.normal(size=(moved, 24)) * 0.2 - np.linspace(-1, 1, 24)
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    return draw
