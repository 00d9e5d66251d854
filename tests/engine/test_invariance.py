"""The promise that an item's vector does not depend on its company, checked on the bytes in the store."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from coldpress import Extractor, _library
from coldpress.data import MemorySource
from coldpress.store import EmbeddingStore
from coldpress.types import Item

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "for",
    "is",
    "on",
    "that",
    "by",
    "this",
    "with",
    "you",
    "it",
    "not",
    "or",
    "be",
    "are",
    "from",
    "at",
    "as",
    "your",
    "all",
    "have",
    "new",
    "more",
]


def texts(count: int) -> list[str]:
    """Texts of one to three hundred words, all different."""
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.choice([1, 3, 9, 30, 90, 300]))) + f" {i}" for i in range(count)]


EXCEPTIONS = {
    "blocks.0.mlp.up": "fp32",
    "blocks.1.attention.out": "int16",
    "blocks.2.attention.qkv": "fp32",
    "blocks.3.mlp.down": "int16",
    "blocks.5.attention.qkv": "int16",
    "blocks.5.attention.out": "int16",
}
"""One of each pair that is fused otherwise, and one pair that is fused in another mode."""


@pytest.fixture(scope="module", params=["fp32", "int16", "int8", "int8 with exceptions"])
def extractor(request: pytest.FixtureRequest, minilm: Path) -> Extractor:
    precision, _, excepted = request.param.partition(" ")
    return Extractor(minilm, device="cpu", precision=precision, layer_precision=EXCEPTIONS if excepted else None)


def stored(extractor: Extractor, out: Path, items: list[Item], **options: object) -> dict[str, bytes]:
    """Key -> bytes of its stored float32 vector."""
    store = extractor.embed_to(out, MemorySource(items, extractor.modality), dtype="float32", **options)
    rows = np.asarray(store.embeddings)
    return {key: rows[i].tobytes() for i, key in enumerate(store.keys)}


@pytest.mark.parametrize("threads", [1, 2])
def test_text_alone_in_seven_and_shuffled(extractor: Extractor, tmp_path: Path, threads: int) -> None:
    items = [Item(f"k{i}", text) for i, text in enumerate(texts(61))]
    whole = stored(extractor, tmp_path / "whole", items)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        shuffled = random.Random(1).sample(items, len(items))
        assert stored(extractor, tmp_path / "shuffled", shuffled) == whole
        assert stored(extractor, tmp_path / "sevens", items, shard_rows=7) == whole
        for item in items[:5]:
            assert stored(extractor, tmp_path / item.key, [item]) == {item.key: whole[item.key]}
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("level", _library.isa_levels())
def test_every_instruction_set_gives_the_same_vectors(extractor: Extractor, level: str) -> None:
    items = texts(9)
    whole = extractor.embed(items)
    with _library.use_isa(level):
        assert np.array_equal(extractor.embed(items), whole)


def test_images_through_a_convolutional_network(shared: Path, tmp_path: Path) -> None:
    model = shared / "models" / "mobilenet_v1_0.25_128_imagenet"
    photos = sorted((shared / "imagenet_sample" / "images").iterdir())[:9]
    sources = {1: Extractor(model, device="cpu", threads=1), 2: Extractor(model, device="cpu", threads=2)}
    by_threads = [sources[n].embed(photos) for n in (1, 2)]
    assert np.array_equal(*by_threads)
    assert np.array_equal(sources[2].embed(photos[4:5])[0], by_threads[0][4])
    assert np.array_equal(sources[2].embed(photos[::-1])[::-1], by_threads[0])


def test_a_resumed_run_gives_the_same_bytes(extractor: Extractor, tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text("\n".join(json.dumps({"text": t}) for t in texts(50)) + "\n{broken\n", encoding="utf-8")
    calls = 0

    def stop(_progress: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extractor.run(tmp_path / "killed", source, shard_rows=10, on_progress=stop)
    partial = EmbeddingStore(tmp_path / "killed")
    assert not partial.complete
    assert 0 < partial.inputs < 51
    summary = extractor.run(tmp_path / "killed", source, shard_rows=10)
    assert summary.resumed == partial.inputs
    extractor.run(tmp_path / "whole", source, shard_rows=10)
    files = {p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file()}
    assert files == {p.relative_to(tmp_path / "killed") for p in (tmp_path / "killed").rglob("*") if p.is_file()}
    for name in files:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert (summary.inputs, summary.rows, summary.failed) == (51, 50, 1)
