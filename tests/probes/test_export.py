"""Backbone and head as one module: the head's own logits, trainable throughout, saved and loaded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from coldpress import Extractor
from coldpress.data import MemorySource
from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.probes import Recipe, batch_of, fit_multilabel, fit_probe, fit_regression

TEXTS = [f"{what} {number}" for number in range(12) for what in ("a cat on a mat", "the price of steel", "rain again")]
LABELS = np.arange(36) % 3


def logits_of(module, extractor, items):
    with torch.no_grad():
        return module(batch_of(extractor, items)).numpy()


@pytest.fixture(scope="module")
def made(minilm, tmp_path_factory):
    """An extractor of all texts, and a store of their vectors."""
    extractor = Extractor(minilm, device="cpu", precision="fp32")
    return extractor, extractor.embed_to(
        tmp_path_factory.mktemp("texts") / "store", MemorySource(TEXTS, modality="text"), dtype="float32"
    )


@pytest.mark.parametrize("kind", ["logistic", "ridge", "lda", "centroid"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("standardize", [False, True])
def test_the_module_has_the_logits_of_every_linear_head(made, kind, classes, standardize):
    extractor, store = made
    labels = [None if label >= classes else int(label) for label in LABELS]
    head = fit_probe(store, labels, recipe=Recipe(heads=[kind], standardize=standardize)).head
    expected = head.logits(extractor.embed(TEXTS))
    found = logits_of(head.to_module(extractor), extractor, TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()


def test_numbers_and_several_labels_too(made):
    extractor, store = made
    regression = fit_regression(store, [len(text) + 0.5 * (i % 3) for i, text in enumerate(TEXTS)]).head
    several = fit_multilabel(store, [["odd", "cat"][: 1 + (i % 3 == 0)] if i % 2 else [] for i in range(36)]).head
    for head in (regression, several):
        found = logits_of(head.to_module(extractor), extractor, TEXTS)
        np.testing.assert_allclose(found, head.logits(extractor.embed(TEXTS)), atol=1e-4)


def check_it_trains(module, batch, labels, tmp_path):
    """Gradients reach all of it, a step lowers the loss, and what was trained can be loaded again."""
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-2)
    before = torch.nn.functional.cross_entropy(module(batch), labels)
    before.backward()
    with_gradient = {name for name, one in module.named_parameters() if one.grad is not None and one.grad.any()}
    first = next(name for name, one in module.named_parameters() if one.numel())
    assert {first, "linear.weight", "linear.bias"} <= with_gradient
    assert len(with_gradient) > 0.8 * sum(one.numel() > 0 for one in module.parameters())
    optimiser.step()
    with torch.no_grad():
        trained = module(batch)
    assert torch.nn.functional.cross_entropy(trained, labels) < before
    safetensors.torch.save_model(module, str(tmp_path / "model.safetensors"))
    return trained


def test_texts_are_fine_tuned_from_where_the_probe_stands(made, tmp_path):
    extractor, store = made
    head, labels = fit_probe(store, LABELS, recipe=Recipe(C=0.1)).head, torch.from_numpy(LABELS)
    frozen = extractor.embed(TEXTS[:3])
    module, batch = head.to_module(extractor), batch_of(extractor, TEXTS)
    trained = check_it_trains(module, batch, labels, tmp_path)
    again = head.to_module(extractor)
    safetensors.torch.load_model(again, str(tmp_path / "model.safetensors"))
    torch.testing.assert_close(logits_of(again, extractor, TEXTS), trained.numpy(), rtol=0, atol=0)
    np.testing.assert_array_equal(extractor.embed(TEXTS[:3]), frozen)  # the extractor's own weights are its own


def test_images_are_fine_tuned_with_folded_normalisations(shared, tmp_path):
    extractor = Extractor(shared / "models" / "mobilenet_v1_0.25_128_imagenet", device="cpu", precision="fp32")
    photos = sorted((shared / "hymenoptera").rglob("*.jpg"))[::8][:16]
    labels = [photo.parent.name for photo in photos]
    store = extractor.embed_to(tmp_path / "store", [str(photo) for photo in photos], dtype="float32")
    head = fit_probe(store, labels, test_size=0.25, recipe=Recipe(C=1e-3, standardize=True)).head
    module, batch = head.to_module(extractor), batch_of(extractor, photos)
    expected = head.logits(extractor.embed(photos))
    np.testing.assert_allclose(logits_of(module, extractor, photos), expected, atol=1e-5 * np.abs(expected).max())
    codes = torch.tensor([head.classes.index(label) for label in labels])
    check_it_trains(module, batch, codes, tmp_path)


def test_what_cannot_be_exported_is_refused(made, minilm):
    extractor, store = made
    head = fit_probe(store, LABELS, recipe=Recipe(heads=["knn"])).head
    with pytest.raises(ColdpressError, match="nearest neighbours have no weights to train"):
        head.to_module(extractor)
    head = fit_probe(store, LABELS, recipe=Recipe(C=1.0)).head
    with pytest.raises(FingerprintMismatch, match="different spaces"):
        head.to_module(Extractor(minilm, device="cpu", precision="fp32", layers=2))
    other = replace(head, output="layer:3")
    with pytest.raises(ColdpressError, match="no output layer:3"):
        other.to_module(extractor)
