"""Fewer numbers a vector: what is stored, what queries get, and what the fingerprint says."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldpress import Extractor
from coldpress.data import MemorySource
from coldpress.errors import ColdpressError, FingerprintMismatch, StoreError
from coldpress.store import EmbeddingStore

TEXTS = [f"text number {i} about {i * i}" for i in range(40)]


@pytest.fixture(scope="module")
def whole(minilm: Path) -> np.ndarray:
    return Extractor(minilm, device="cpu", precision="fp32").embed(TEXTS)


def test_truncated_vectors_are_the_front_at_length_one(minilm: Path, whole: np.ndarray) -> None:
    short = Extractor(minilm, device="cpu", precision="fp32", truncate_dim=64)
    vectors = short.embed(TEXTS)
    assert vectors.shape == (40, short.dim) == (40, 64)
    front = whole[:, :64]
    np.testing.assert_allclose(vectors, front / np.linalg.norm(front, axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(short.embed(TEXTS[7:8])[0], vectors[7])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(short)).embed(TEXTS[:2]), vectors[:2])
    assert short.certify(TEXTS).passed


def test_truncation_is_part_of_the_space(minilm: Path, tmp_path: Path) -> None:
    def run(dim: int | None, **options: object) -> None:
        Extractor(minilm, device="cpu", truncate_dim=dim).run(tmp_path / "out", MemorySource(TEXTS, "text"), **options)

    run(64)
    run(64)
    with pytest.raises(FingerprintMismatch, match="truncate_dim: 64 != 32"):
        run(32)
    with pytest.raises(FingerprintMismatch, match=r"truncate_dim: 64 != \(absent\)"):
        run(None)


def test_every_output_is_truncated(minilm: Path, tmp_path: Path) -> None:
    extractor = Extractor(minilm, device="cpu", output="pooled,layer:2", truncate_dim=16)
    store = extractor.embed_to(tmp_path / "out", MemorySource(TEXTS, "text"), dtype="int8")
    assert dict(store.dims) == extractor.dims == {"pooled": 16, "layer:2": 16}
    assert store.certificate is not None
    assert store.certificate.stored_dtype == "int8"
    assert 0.999 < store.certificate.stored_cosine < 1


@pytest.mark.parametrize("dim", [0, 385])
def test_what_cannot_be_kept_is_refused(minilm: Path, dim: int) -> None:
    with pytest.raises(ColdpressError, match=f"truncate_dim is {dim}, expected 1 to 384, the width of pooled"):
        Extractor(minilm, device="cpu", truncate_dim=dim)


@pytest.fixture(scope="module")
def source() -> MemorySource:
    return MemorySource([f"{word} number {i}" for i in range(40) for word in ("dog", "ship", "tax", "wool")], "text")


@pytest.fixture(scope="module")
def store(minilm: Path, source: MemorySource, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    extractor = Extractor(minilm, device="cpu", precision="fp32", pca=16)
    return extractor.embed_to(tmp_path_factory.mktemp("pca") / "out", source, shard_rows=50, dtype="float32")


class TestPca:
    def test_it_keeps_the_directions_that_hold_most(
        self, minilm: Path, source: MemorySource, store: EmbeddingStore
    ) -> None:
        texts = [str(item.content) for item in source.items()]
        whole = Extractor(minilm, device="cpu", precision="fp32").embed(texts)
        assert store.projection is not None
        (components,) = store.projection.components.values()
        np.testing.assert_allclose(components @ components.T, np.eye(16), atol=1e-5)
        energy = np.linalg.svd(whole, compute_uv=False) ** 2
        kept = np.linalg.norm(whole @ components.T) ** 2
        np.testing.assert_allclose(kept, energy[:16].sum(), rtol=1e-5)
        reduced = whole @ components.T
        expected = reduced / np.linalg.norm(reduced, axis=1, keepdims=True)
        np.testing.assert_allclose(np.asarray(store.embeddings), expected, atol=1e-5)
        assert store.certificate is not None
        assert store.certificate.passed

    def test_queries_are_mapped_by_what_the_store_keeps(self, minilm: Path, store: EmbeddingStore) -> None:
        fitted = Extractor(minilm, device="cpu", precision="fp32", pca=store.projection)
        assert fitted.fingerprint.digest == store.fingerprint.digest
        np.testing.assert_array_equal(fitted.embed(["tax number 7"])[0], store.embeddings[30])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).embed(["dog"]), fitted.embed(["dog"]))

    def test_unfitted_it_says_what_to_do(self, minilm: Path) -> None:
        with pytest.raises(ColdpressError, match="pca 16 has to see some data first: embed a source"):
            Extractor(minilm, device="cpu", pca=16).embed(["a text"])
        with pytest.raises(ColdpressError, match="pca is 385, expected 1 to 384"):
            Extractor(minilm, device="cpu", pca=385)
        with pytest.raises(ColdpressError, match="truncate_dim and pca are both given"):
            Extractor(minilm, device="cpu", pca=16, truncate_dim=16)

    def test_too_few_items_are_refused(self, minilm: Path, tmp_path: Path) -> None:
        with pytest.raises(ColdpressError, match=r"pca 16 needs at least 16 vectors .* got 3"):
            Extractor(minilm, device="cpu", pca=16).run(tmp_path / "out", MemorySource(["a", "b", "c"], "text"))

    @pytest.mark.parametrize("stops", [0, 1, 2])
    def test_interrupted_and_grown_it_keeps_the_first_fit(
        self, minilm: Path, source: MemorySource, store: EmbeddingStore, tmp_path: Path, stops: int
    ) -> None:
        def stopping(at: int) -> Callable[[], bool]:
            asked = count(1)
            return lambda: next(asked) >= at

        def run(**options: Any) -> None:
            extractor = Extractor(minilm, device="cpu", precision="fp32", pca=16)
            extractor.run(tmp_path / "out", source, shard_rows=50, dtype="float32", **options)

        for _ in range(stops):
            run(should_stop=stopping(1))
        run()
        ours, theirs = ({p.name: p.read_bytes() for p in Path(s).rglob("*.*")} for s in (tmp_path / "out", store.path))
        assert ours == theirs
        other = Extractor(minilm, device="cpu", precision="fp32", pca=8)
        with pytest.raises(FingerprintMismatch, match=r"pca.dim: 16 != 8|pca: 16"):
            other.run(tmp_path / "out", source, shard_rows=50, dtype="float32")

    def test_whole_vectors_and_projected_ones_do_not_mix(
        self, minilm: Path, source: MemorySource, store: EmbeddingStore, tmp_path: Path
    ) -> None:
        whole = Extractor(minilm, device="cpu", precision="fp32")
        with pytest.raises(FingerprintMismatch, match="pca"):
            whole.run(store.path, source, shard_rows=50, dtype="float32")
        whole.run(tmp_path / "whole", source)
        with pytest.raises(FingerprintMismatch, match="holds whole vectors, this run has pca"):
            Extractor(minilm, device="cpu", precision="fp32", pca=16).run(tmp_path / "whole", source)

    def test_another_source_that_reuses_it_is_mapped_alike(
        self, minilm: Path, source: MemorySource, store: EmbeddingStore, tmp_path: Path
    ) -> None:
        more = MemorySource([*(item.content for item in source.items()), "something new"], "text")
        extractor = Extractor(minilm, device="cpu", precision="fp32", pca=16)
        summary = extractor.run(tmp_path / "out", more, reuse=store.path, dtype="float32")
        assert (summary.computed, summary.reused) == (1, 160)
        assert EmbeddingStore(tmp_path / "out").fingerprint.digest == store.fingerprint.digest

    def test_a_damaged_projection_is_refused(self, store: EmbeddingStore, tmp_path: Path) -> None:
        copied = shutil.copytree(store.path, tmp_path / "out")
        path = copied / "projection.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
        with pytest.raises(StoreError, match=r"projection.safetensors: damaged"):
            EmbeddingStore(copied).verify()
