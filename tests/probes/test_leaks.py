"""Copies planted among real photos and texts are found, and nothing else is."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from coldpress import Extractor
from coldpress.probes.features import Features
from coldpress.probes.leaks import near_duplicates


def features(X):
    return Features(X, np.arange(len(X)), str)


def check(vectors, copies):
    """Half of the items train, the others test; among these are copies of every second training item."""
    half = len(vectors) // 2
    train, planted = vectors[:half], copies[:half:2]
    found = near_duplicates(features(train), features(np.concatenate([vectors[half:], planted])))
    others = len(vectors) - half
    recall = np.mean(np.isin(np.arange(others, others + len(planted)), found.test))
    right = [2 * (test - others) == row for test, row in zip(found.test, found.train, strict=True) if test >= others]
    assert recall >= 0.95
    assert np.mean(right) == 1
    assert np.sum(found.test < others) <= 0.01 * others
    assert found.cosine.tolist() == sorted(found.cosine, reverse=True)


@pytest.mark.parametrize("quality", [75, 50])
def test_photos_saved_again(shared, quality):
    files = sorted((shared / "hymenoptera").rglob("*.jpg"))[:120:2]
    extractor = Extractor(shared / "models" / "mobilenet_v1_0.25_128_imagenet", device="cpu", precision="fp32")

    def again(file):
        saved = io.BytesIO()
        Image.open(file).convert("RGB").save(saved, "JPEG", quality=quality)
        return saved.getvalue()

    check(extractor.embed(files), extractor.embed([again(file) for file in files]))


def test_texts_with_other_white_space_and_without_commas(minilm, shared):
    with (shared / "text" / "ag_news" / "test.jsonl").open() as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(160), strict=False)]
    extractor = Extractor(minilm, device="cpu", precision="fp32")
    vectors = extractor.embed(texts)
    check(vectors, extractor.embed(["  " + text.replace(" ", "  ") + "\n" for text in texts]))
    check(vectors, extractor.embed([text.replace(",", "") for text in texts]))


def test_blocks_and_draws_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(300, 16)).astype(np.float32), rng.normal(size=(40, 16)).astype(np.float32)
    test[7] = train[123] * 1.01
    monkeypatch.setattr("coldpress.store.blocks.BLOCK_BYTES", 64 * 50)
    found = near_duplicates(features(train), features(test), near=0.99)
    assert (found.compared, found.test.tolist(), found.train.tolist()) == (40, [7], [123])
    monkeypatch.setattr("coldpress.probes.leaks.MOST_PRODUCTS", 300 * 16 * 10)
    assert near_duplicates(features(train), features(test)).compared == 10
