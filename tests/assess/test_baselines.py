"""What features have to beat: the input itself, and the same network before any training."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from coldpress import Extractor, models
from coldpress.assess.baselines import randomise, raw_features, untrained


def test_raw_texts_keep_words_and_the_case_of_letters():
    X = raw_features(["the cat sat", "THE CAT SAT", "the cat sat", "shares fell"], "text").array(np.float64)
    cosines = X @ X.T
    assert cosines[0, 2] == pytest.approx(2, abs=1e-4)  # of words and of letters, 1 each
    assert 0.9 < cosines[0, 1] < 1.3  # the words alone
    assert cosines[0, 3] < 0.3


def test_texts_without_a_word_are_no_failure():
    assert np.isfinite(raw_features(["", "!?", "a", "…"], "text").array(np.float32)).all()


def test_raw_images_are_their_pixels():
    images = [Image.new("RGB", (80, 40), colour) for colour in ("red", "white")]
    X = raw_features(images, "image").array(np.float32)
    assert X.shape == (2, 3072)
    assert X[0].reshape(32, 32, 3)[5, 7].tolist() == [1, 0, 0]
    assert (X[1] == 1).all()


@pytest.fixture(scope="module")
def store(news, minilm, tmp_path_factory):
    extractor = Extractor(minilm, device="cpu", precision="int8", layers=2, output="pooled,layer:1")
    return extractor.embed_to(tmp_path_factory.mktemp("int8") / "store", news, limit=20)


def test_an_untrained_twin_has_the_shape_of_the_network_and_nothing_of_its_weights(store):
    texts = ["the cat sat on the mat", "shares of the bank fell"]
    twin = untrained(store, seed=1)
    assert (twin.precision, [one.name for one in twin.outputs]) == ("fp32", ["pooled", "layer:1"])
    assert twin.model.backbone.depth == 2
    vectors = twin.embed(texts)
    assert np.array_equal(vectors, untrained(store, seed=1).embed(texts))
    assert not np.allclose(vectors, untrained(store, seed=2).embed(texts), atol=1e-2)


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_imagenet", "mobilenet_v2_1.0_224_imagenet"])
def test_random_convolutions_neither_vanish_nor_explode(shared, name):
    loaded = models.load(shared / "models" / name)
    randomise(loaded.backbone, 0)
    photos = sorted((shared / "hymenoptera").rglob("*.jpg"))[:8]
    vectors = Extractor(loaded, device="cpu", precision="fp32").embed(photos)
    assert np.isfinite(vectors).all()
    assert vectors.std(axis=0).max() > 1e-3
    assert np.abs(vectors).max() < 1e3
