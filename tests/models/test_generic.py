"""Networks without a native family: through transformers, and any torch module."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conformance import equal, join, randomise, split, text_batch, torch_threads, write_files
from safetensors.torch import load_file, save_file
from test_vit import processor
from torch import nn
from transformers import (
    ErnieConfig,
    ErnieModel,
    PreTrainedModel,
    RegNetConfig,
    RegNetModel,
    SplinterConfig,
    SplinterModel,
)

from coldpress import models
from coldpress.errors import ModelError
from coldpress.types import ImageBatch, ImageSpec, Output, TextBatch

POOLED = [Output("pooled", None, "model")]


def regnet() -> PreTrainedModel:
    return RegNetModel(RegNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], groups_width=4))


@pytest.fixture
def image_model(tmp_path: Path) -> tuple[PreTrainedModel, Path]:
    upstream = randomise(regnet().eval())
    upstream.save_pretrained(tmp_path)
    write_files(tmp_path, processor(24, 40))
    return upstream, tmp_path


@pytest.fixture
def photos() -> torch.Tensor:
    return torch.randint(0, 256, (7, 24, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def test_an_image_network_agrees_with_transformers(
    image_model: tuple[PreTrainedModel, Path], photos: torch.Tensor
) -> None:
    upstream, directory = image_model
    loaded = models.load(directory)
    assert (loaded.family, loaded.backbone.width) == ("transformers", 16)
    outputs = [*POOLED, Output("mean", None, "mean"), Output("layer:1", 1, "model")]
    ours = loaded.backbone(ImageBatch(photos), outputs)
    spec = loaded.spec
    assert isinstance(spec, ImageSpec)
    values = (photos * spec.rescale - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    with torch.no_grad():
        result = upstream(values.permute(0, 3, 1, 2), output_hidden_states=True)
    pooled = result.pooler_output.flatten(1)
    for output, vectors in zip(outputs, (pooled, pooled, result.hidden_states[1].mean((2, 3))), strict=True):
        torch.testing.assert_close(ours[output.name], vectors, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_image_rows_depend_on_their_image_alone(
    image_model: tuple[PreTrainedModel, Path], photos: torch.Tensor, threads: int
) -> None:
    backbone = models.load(image_model[1]).backbone
    vectors = backbone(ImageBatch(photos), POOLED)["pooled"]
    with torch_threads(threads):
        assert torch.equal(backbone(ImageBatch(photos), POOLED)["pooled"], vectors)
        for b in range(len(photos)):
            assert torch.equal(backbone(ImageBatch(photos[[b]]), POOLED)["pooled"][0], vectors[b])


def test_a_convolutional_network_has_no_class_token(
    image_model: tuple[PreTrainedModel, Path], photos: torch.Tensor
) -> None:
    with pytest.raises(ModelError, match="no such token; use pooled or mean"):
        models.load(image_model[1]).backbone(ImageBatch(photos), [Output("cls", None, "cls")])


VOCABULARY = {"vocab.txt": "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"])}


SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}


def splinter() -> PreTrainedModel:
    return SplinterModel(SplinterConfig(vocab_size=31, **SIZES))


def ernie() -> PreTrainedModel:
    return ErnieModel(ErnieConfig(vocab_size=31, **SIZES))


@pytest.fixture(params=[splinter, ernie], ids=lambda build: build.__name__)
def text_model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[PreTrainedModel, Path]:
    upstream = randomise(request.param().eval())
    upstream.save_pretrained(tmp_path)
    write_files(tmp_path, VOCABULARY)
    return upstream, tmp_path


@pytest.fixture
def ids() -> TextBatch:
    generator = torch.Generator().manual_seed(3)
    return text_batch([torch.randint(5, 31, (n,), generator=generator) for n in (4, 1, 30, 9, 9, 2, 16)])


def test_text_networks_agree_with_transformers(text_model: tuple[PreTrainedModel, Path], ids: TextBatch) -> None:
    upstream, directory = text_model
    loaded = models.load(directory)
    assert (loaded.family, loaded.backbone.width, loaded.backbone.depth) == ("transformers", 24, 2)
    outputs = [*POOLED, Output("cls", None, "cls"), Output("last", None, "last"), Output("layer:1", 1, "model")]
    ours = loaded.backbone(ids, outputs)
    for b, item in enumerate(split(ids)):
        with torch.no_grad():
            result = upstream(input_ids=item.long().unsqueeze(0), output_hidden_states=True)
        tokens = result.last_hidden_state[0]
        wanted = (tokens.mean(0), tokens[0], tokens[-1], result.hidden_states[1][0].mean(0))
        for output, vector in zip(outputs, wanted, strict=True):
            torch.testing.assert_close(ours[output.name][b], vector, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_text_rows_depend_on_their_item_alone(
    text_model: tuple[PreTrainedModel, Path], ids: TextBatch, threads: int
) -> None:
    backbone = models.load(text_model[1]).backbone
    outputs = [*POOLED, Output("layer:1", 1, "mean")]
    vectors = backbone(ids, outputs)
    order = [3, 0, 6, 2, 5, 1, 4]
    with torch_threads(threads):
        for b, item in enumerate(split(ids)):
            assert equal(backbone(join([item]), outputs), {name: v[b : b + 1] for name, v in vectors.items()})
        shuffled = backbone(join([split(ids)[b] for b in order]), outputs)
    assert equal(shuffled, {name: v[order] for name, v in vectors.items()})


def test_weights_that_transformers_would_make_up_are_missing(text_model: tuple[PreTrainedModel, Path]) -> None:
    directory = text_model[1]
    tensors = load_file(directory / "model.safetensors")
    name = next(n for n in tensors if n.endswith("layer.1.output.dense.weight"))
    save_file({n: t for n, t in tensors.items() if n != name}, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=f"missing: {name}"):
        models.load(directory)
    save_file(tensors | {name: torch.zeros(3, 3)}, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"wrong shape: {name} is \(3, 3\), not \(24, 40\)"):
        models.load(directory)


def test_a_text_network_without_its_pooler_has_one_fingerprint(tmp_path: Path) -> None:
    randomise(ernie()).save_pretrained(tmp_path)
    write_files(tmp_path, VOCABULARY)
    tensors = load_file(tmp_path / "model.safetensors")
    kept = {n: t for n, t in tensors.items() if "pooler" not in n}
    assert len(kept) < len(tensors)
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    assert models.load(tmp_path).weights == models.load(tmp_path).weights


SPEC = ImageSpec(("exact", 16, 24), None, "bilinear", 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (7, 16, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2))


def test_a_module_is_fed_normalised_images_and_averaged(pixels: torch.Tensor) -> None:
    module = randomise(network())
    loaded = models.from_module(module, SPEC, name="mine")
    assert (loaded.name, loaded.backbone.width) == ("mine", 12)
    ours = loaded.backbone(ImageBatch(pixels), POOLED)["pooled"]
    values = (pixels / 255 - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.std)
    with torch.no_grad():
        theirs = module(values.permute(0, 3, 1, 2)).mean((2, 3))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not ours.requires_grad
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("threads", [1, 2])
def test_a_modules_rows_depend_on_their_image_alone(pixels: torch.Tensor, threads: int) -> None:
    backbone = models.from_module(randomise(network()), SPEC, name="mine").backbone
    vectors = backbone(ImageBatch(pixels), POOLED)["pooled"]
    with torch_threads(threads):
        assert torch.equal(backbone(ImageBatch(pixels), POOLED)["pooled"], vectors)
        for b in range(len(pixels)):
            assert torch.equal(backbone(ImageBatch(pixels[b : b + 1]), POOLED)["pooled"][0], vectors[b])


def test_a_modules_weights_are_hashed() -> None:
    hashes = [models.from_module(randomise(network(), seed), SPEC, name="mine").weights for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_module_that_gives_no_tensor_is_refused() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    with pytest.raises(ModelError, match="returned tuple, expected a tensor"):
        models.from_module(Pair(), SPEC, name="pair")


def test_a_module_needs_images_of_one_size() -> None:
    spec = ImageSpec(("shortest_edge", 16), None, "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ModelError, match="fixed size"):
        models.from_module(network(), spec, name="mine")


class ThreadCounts(nn.Module):
    """Reports the thread count that torch has where it runs."""

    def __init__(self, company: int) -> None:
        super().__init__()
        self.company = threading.Barrier(company)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.abs().sum() > 0:  # not the probe of from_module: wait until every worker has an item
            self.company.wait(timeout=10)
        return torch.tensor([[float(torch.get_num_threads())]])


@pytest.fixture
def two_threads() -> Iterator[None]:
    with torch_threads(2):
        yield


@pytest.mark.usefixtures("two_threads")
def test_workers_use_one_thread_and_everybody_else_keeps_theirs() -> None:
    for _ in range(20):  # a worker that starts late changes the count of threads that start after it
        spec = ImageSpec(("exact", 4, 4), None, "bilinear", 1.0, (0.0,) * 3, (1.0,) * 3)
        backbone = models.from_module(ThreadCounts(2), spec, name="counts").backbone
        counts = backbone(ImageBatch(torch.ones(2, 4, 4, 3, dtype=torch.uint8)), POOLED)["pooled"]
        assert counts.flatten().tolist() == [1, 1]
        assert torch.get_num_threads() == 2
        seen: list[int] = []
        other = threading.Thread(target=lambda seen=seen: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert seen == [2]
