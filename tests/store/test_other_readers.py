"""Tools that know nothing of coldpress read its stores: numpy, pyarrow, polars, DuckDB, embedding-reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset
import pytest

from coldpress.store import EmbeddingStore


@pytest.fixture
def store(tmp_path: Path, sample) -> EmbeddingStore:
    return EmbeddingStore(sample.build(tmp_path / "out", dtype="float16"))


def test_numpy_maps_every_part(store: EmbeddingStore) -> None:
    parts = [np.load(path, mmap_mode="r") for path in sorted((store.path / "embeddings").glob("*.npy"))]
    assert all(isinstance(part, np.memmap) for part in parts)
    assert np.array_equal(np.concatenate(parts), np.asarray(store.embeddings))


def test_pyarrow_joins_metadata_and_outcomes(store: EmbeddingStore) -> None:
    metadata = pyarrow.dataset.dataset(store.path / "metadata").to_table(columns=["key", "label"])
    outcomes = pyarrow.dataset.dataset(store.path / "outcomes").to_table()
    assert metadata.column("key").to_pylist() == list(store.keys)
    assert outcomes.num_rows == store.inputs
    assert outcomes.filter(pc.field("status") == "failed").num_rows == store.failed


def test_embedding_reader_pairs_vectors_and_metadata(store: EmbeddingStore) -> None:
    reader = pytest.importorskip("embedding_reader").EmbeddingReader
    plain = reader(embeddings_folder=str(store.path / "embeddings"), file_format="npy")
    assert (plain.count, plain.dimension) == (len(store), store.dim)
    both = reader(
        embeddings_folder=str(store.path / "embeddings"),
        metadata_folder=str(store.path / "metadata"),
        meta_columns=["key"],
        file_format="parquet_npy",
    )
    blocks = list(both(batch_size=5, show_progress=False))
    assert np.array_equal(np.concatenate([vectors for vectors, _ in blocks]), np.asarray(store.embeddings))
    assert [key for _, metadata in blocks for key in metadata["key"]] == list(store.keys)


def test_duckdb_queries_the_parquet_files(store: EmbeddingStore) -> None:
    duckdb = pytest.importorskip("duckdb")
    query = f"select status, count(*) from '{store.path}/outcomes/*.parquet' group by status"
    counts = dict(duckdb.sql(query).fetchall())
    assert counts["failed"] == store.failed
    assert sum(counts.values()) == store.inputs


def test_polars_scans_them_lazily(store: EmbeddingStore) -> None:
    polars = pytest.importorskip("polars")
    table = (
        polars.scan_parquet(store.path / "metadata" / "*.parquet").filter(polars.col("label") == "class 1").collect()
    )
    assert 0 < len(table) < len(store)
