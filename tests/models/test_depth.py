"""`layers=N`: the first blocks of a transformer as a network of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from coldpress import EmbeddingStore, Extractor, VectorIndex, models
from coldpress.cli._extractors import extractor_for
from coldpress.data import MemorySource
from coldpress.errors import ColdpressError, ModelError

TEXTS = ["A cat sits on the mat.", "The weather is fine.", "Nobody expects a short sentence to be this long."]


def test_is_what_the_whole_network_has_after_that_block(minilm: Path) -> None:
    cut = Extractor(minilm, layers=3, precision="fp32")
    whole = Extractor(minilm, output="layer:3", precision="fp32")
    np.testing.assert_array_equal(cut.embed(TEXTS), whole.embed(TEXTS))
    assert cut.fingerprint != whole.fingerprint


def test_the_tensors_of_other_blocks_are_not_needed(minilm: Path, tmp_path: Path) -> None:
    shutil.copytree(minilm, tmp_path / "cut")
    tensors = load_file(minilm / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if not any(f"layer.{i}." in name for i in (3, 4, 5))}
    assert len(kept) < len(tensors)
    save_file(kept, tmp_path / "cut" / "model.safetensors")
    assert models.load(tmp_path / "cut", layers=3).weights == models.load(minilm, layers=3).weights
    with pytest.raises(ModelError, match="missing"):
        models.load(tmp_path / "cut")


def test_all_blocks_are_the_model_as_it_is(minilm: Path) -> None:
    assert Extractor(minilm, layers=6).fingerprint == Extractor(minilm).fingerprint


@pytest.mark.parametrize("layers", [0, 7, -1])
def test_a_depth_that_it_does_not_have_is_refused(minilm: Path, layers: int) -> None:
    with pytest.raises(ModelError, match=f"layers is {layers}, expected 1 to 6"):
        Extractor(minilm, layers=layers)


def test_convolutional_networks_and_loaded_models_are_refused(shared: Path) -> None:
    with pytest.raises(ModelError, match="no transformer"):
        Extractor(shared / "models" / "mobilenet_v1_0.25_128_imagenet", layers=2)
    module = models.load(shared / "models" / "mobilenet_v1_0.25_128_imagenet")
    with pytest.raises(ColdpressError, match="a module as a whole"):
        Extractor(module, layers=1)


def test_a_store_finds_the_same_extractor_again(minilm: Path, tmp_path: Path) -> None:
    cut = Extractor(minilm, layers=2, precision="int8")
    store: EmbeddingStore = cut.embed_to(tmp_path / "store", MemorySource(TEXTS, "text"))
    assert store.description["layers"] == 2
    again = extractor_for(VectorIndex.build(store), None)
    np.testing.assert_array_equal(again.embed(TEXTS), cut.embed(TEXTS))
