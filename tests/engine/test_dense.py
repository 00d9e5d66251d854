"""Tokens and patches: right, the same in any company, and beside vectors from one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coldpress import Extractor, ImageSpec
from coldpress.data import MemorySource
from coldpress.errors import ColdpressError
from coldpress.models import LoadedModel
from coldpress.models.vision import VisionConfig, VisionTower
from coldpress.preprocess import preprocessor_for
from coldpress.store import EmbeddingStore
from coldpress.types import Item

TEXTS = [f"text {i} " + "and more of it " * (i % 7) for i in range(90)]
ITEMS = [Item(f"k{i}", text) for i, text in enumerate(TEXTS)]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def extractor(request: pytest.FixtureRequest, minilm: Path) -> Extractor:
    return Extractor(minilm, device="cpu", precision=request.param, output="tokens,pooled")


@pytest.fixture(scope="module")
def store(extractor: Extractor, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    path = tmp_path_factory.mktemp("tokens") / "out"
    return extractor.embed_to(path, MemorySource(ITEMS, "text"), dtype="float32", shard_rows=40)


def test_the_mean_of_the_tokens_is_the_vector(store: EmbeddingStore) -> None:
    tokens = store.output("tokens")
    counts = store.read_metadata(["num_tokens"]).column(0).to_pylist()
    assert [len(rows) for rows in tokens] == counts
    means = np.stack([rows.mean(axis=0) for rows in tokens])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(store.embeddings), means, atol=1e-5)
    assert store.certificate is not None
    assert store.certificate.passed


def test_tokens_do_not_depend_on_their_company(extractor: Extractor, store: EmbeddingStore, tmp_path: Path) -> None:
    backwards = MemorySource(ITEMS[::-1], "text")
    other = extractor.embed_to(tmp_path / "backwards", backwards, dtype="float32", shard_rows=17)
    one = extractor.embed_to(tmp_path / "one", MemorySource(ITEMS[5:6], "text"), dtype="float32")
    for item in ITEMS:
        whole = store.output("tokens")[store.row(item.key)]
        np.testing.assert_array_equal(other.output("tokens")[other.row(item.key)], whole)
    np.testing.assert_array_equal(one.output("tokens")[0], store.output("tokens")[5])


def test_pooled_vectors_are_those_without_tokens(extractor: Extractor, store: EmbeddingStore, minilm: Path) -> None:
    alone = Extractor(minilm, device="cpu", precision=extractor.precision).embed(TEXTS)
    np.testing.assert_array_equal(np.asarray(store.embeddings), alone)
    np.testing.assert_array_equal(extractor.embed(TEXTS), alone)


def test_tokens_in_int8_and_fewer_numbers(minilm: Path, store: EmbeddingStore, tmp_path: Path) -> None:
    small = Extractor(minilm, device="cpu", precision="fp32", output="tokens", pca=96)
    kept = small.embed_to(tmp_path / "out", MemorySource(ITEMS, "text"), dtype="int8")
    tokens = kept.output("tokens")
    assert (tokens.dim, tokens[3].shape) == (96, (len(store.output("tokens")[3]), 96))
    assert kept.certificate is not None
    assert 0.999 < kept.certificate.stored_cosine < 1
    assert kept.projection is not None
    back = tokens[3] @ kept.projection.components["tokens"]
    true = store.output("tokens")[3]
    cosines = (back * true).sum(1) / np.linalg.norm(back, axis=1) / np.linalg.norm(true, axis=1)
    assert cosines.min() > 0.9
    with pytest.raises(ColdpressError, match=r"tokens are a matrix an item: use embed_to\(\)"):
        small.embed(["a text"])


def test_reused_tokens_are_the_computed_ones(extractor: Extractor, store: EmbeddingStore, tmp_path: Path) -> None:
    more = MemorySource([Item("new", "something new"), *ITEMS[::2]], "text")
    summary = extractor.run(tmp_path / "reused", more, dtype="float32", reuse=store.path)
    assert (summary.computed, summary.reused) == (1, 45)
    extractor.run(tmp_path / "computed", more, dtype="float32")
    reused, computed = (EmbeddingStore(tmp_path / name) for name in ("reused", "computed"))
    for ours, theirs in zip(reused.output("tokens"), computed.output("tokens"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_output_that_a_network_does_not_have_is_refused(minilm: Path, photo_extractor: Extractor) -> None:
    with pytest.raises(ColdpressError, match=r"unknown output 'patches'; this backbone has .*layer:K, tokens$"):
        Extractor(minilm, device="cpu", output="patches")
    with pytest.raises(ColdpressError, match="unknown output 'tokens'"):
        Extractor(photo_extractor.model, device="cpu", output="tokens")


def test_patches_are_without_the_tokens_in_front(patch_extractor: Extractor, tmp_path: Path) -> None:
    photos = list(np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8))
    extractor = Extractor(patch_extractor.model, device="cpu", precision="fp32", output="mean,patches")
    store = extractor.embed_to(tmp_path / "out", photos, dtype="float32")
    patches = store.output("patches")
    assert [rows.shape for rows in patches] == [(4, 16)] * 9
    np.testing.assert_allclose(np.stack([rows.mean(0) for rows in patches]), np.asarray(store.embeddings), atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_patches_of_a_convolutional_network_are_the_cells_of_its_last_map(
    shared: Path, tmp_path: Path, precision: str
) -> None:
    if precision == "int8":
        pytest.importorskip("openvino")
    photos = sorted((shared / "imagenet_sample" / "images").iterdir())[:12]
    directory = shared / "models" / "mobilenet_v1_0.75_192_imagenet"
    extractor = Extractor(directory, device="cpu", precision=precision, output="mean,patches", image_size=(128, 160))
    store = extractor.embed_to(tmp_path / "out", photos, dtype="float32")
    patches = store.output("patches")
    assert [rows.shape for rows in patches] == [(4 * 5, 768)] * 12
    means = np.stack([rows.mean(axis=0) for rows in patches])
    np.testing.assert_allclose(means, np.asarray(store.embeddings), atol=1e-5)
    again = extractor.embed_to(tmp_path / "backwards", photos[::-1], dtype="float32")
    for ours, theirs in zip(again.output("patches"), reversed(list(patches)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def flexible_extractor(output: str) -> Extractor:
    """A vision transformer whose images keep their shapes: as many patches of 4 pixels as fit into 24."""
    spec = ImageSpec(("patches", 4, 24), None, "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3)
    sizes: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, "hidden": 32, "patch": 4, "image_size": 16}
    config = VisionConfig(**sizes, special=0, positioned=0, positions="flexible", pooling="mean")
    tower = VisionTower(config, spec)
    draw = torch.Generator().manual_seed(0)
    for tensor in tower.parameters():
        tensor.normal_(generator=draw)
    model = LoadedModel(tower, spec, "flexible", {}, "0" * 64, "own shapes")
    return Extractor(model, device="cpu", precision="fp32", output=output)


def test_patches_of_images_that_keep_their_shapes(tmp_path: Path) -> None:
    """Every image has as many rows as its own grid has patches, in any company and whatever is beside it in a batch."""
    draw = np.random.default_rng(0)
    shapes = [(40, 40), (40, 40), (12, 90), (90, 12), (30, 47), (4, 4), (300, 4), (41, 39)] * 3
    photos = [draw.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    extractor = flexible_extractor("mean,patches")
    store = extractor.embed_to(tmp_path / "out", photos, dtype="float32", shard_rows=7)
    patches = store.output("patches")
    pixels = [one.pixels for one in preprocessor_for(extractor.model.spec, None)(photos)]
    assert [len(rows) for rows in patches] == [one.shape[0] * one.shape[1] // 16 for one in pixels]
    assert len({len(rows) for rows in patches}) > 2
    np.testing.assert_allclose(np.stack([r.mean(0) for r in patches]), np.asarray(store.embeddings), atol=1e-4)
    for i in (0, 2, 6, 13):
        alone = flexible_extractor("patches").embed_to(tmp_path / f"{i}", photos[i : i + 1], dtype="float32")
        np.testing.assert_array_equal(alone.output("patches")[0], patches[i])
