"""What a GPU promises beside the kernels: the vectors of a CPU, the same bits in any company, memory that runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from coldpress import EmbeddingStore, Extractor
from coldpress.engine import Computer, parse_outputs
from coldpress.models import Backbone, LoadedModel
from coldpress.models.encoder import Encoder, EncoderConfig
from coldpress.models.resnet import Config as ResNetConfig
from coldpress.models.resnet import ResNet
from coldpress.models.vision import VisionConfig, VisionTower
from coldpress.types import ImageInput, ImageSpec, ModelInput, Spec, TextInput, TextSpec

pytestmark = pytest.mark.cuda

IMAGES = ImageSpec(("exact", 64, 64), None, "bicubic", 1 / 255, (0.5,) * 3, (0.5,) * 3)
TEXTS = TextSpec("", 128)
COMPANY = 150
Vectors = npt.NDArray[np.float32]


def loaded(make: Callable[[], Backbone], spec: Spec) -> LoadedModel:
    """A network with drawn weights, in memory."""

    def drawn() -> Backbone:
        backbone, draw = make(), torch.Generator().manual_seed(0)
        for name, tensor in (*backbone.named_parameters(), *backbone.named_buffers()):
            if name.endswith("norm_var"):
                tensor.data.uniform_(0.5, 1.5, generator=draw)
            elif isinstance(tensor, torch.nn.Parameter) and tensor.dim() > 1:
                tensor.data.normal_(std=tensor[0].numel() ** -0.5, generator=draw)
        return backbone

    return LoadedModel(drawn(), spec, "drawn", {}, "0" * 64, "drawn", reload=drawn)


def bert() -> LoadedModel:
    sizes = {"vocabulary": 1000, "max_tokens": 128, "width": 192, "depth": 3, "heads": 3, "hidden": 768}
    return loaded(lambda: Encoder(EncoderConfig(**sizes, positions=128, token_types=2, normalize=True)), TEXTS)


def modern_bert() -> LoadedModel:
    """With rotations, windows and gates."""
    sizes = {"vocabulary": 1000, "max_tokens": 128, "width": 192, "depth": 3, "heads": 3, "hidden": 384}
    places = {"rotations": (1e4, 1e3, 1e4), "windows": (-1, 16, -1)}
    return loaded(lambda: Encoder(EncoderConfig(**sizes, **places, gated=True, pre_norm=True, eps=1e-5)), TEXTS)


def biased_bert() -> LoadedModel:
    """With a bias by distance, which no library's kernel for packed sequences has."""
    sizes = {"vocabulary": 1000, "max_tokens": 128, "width": 192, "depth": 2, "heads": 3, "hidden": 384}
    return loaded(lambda: Encoder(EncoderConfig(**sizes, positions=130, padding=1, buckets=32)), TEXTS)


def vit() -> LoadedModel:
    config = VisionConfig(width=192, depth=3, heads=3, hidden=768, patch=16, image_size=64, activation="gelu_tanh")
    return loaded(lambda: VisionTower(config, IMAGES), IMAGES)


def dino() -> LoadedModel:
    """With registers, layer scales, gates and rotations."""
    config = VisionConfig(
        width=192, depth=3, heads=3, hidden=384, patch=16, image_size=64, registers=4, positioned=0, positions=100.0,
        gated=True, layer_scale=True, activation="silu",
    )  # fmt: skip
    return loaded(lambda: VisionTower(config, IMAGES), IMAGES)


def merging_vit() -> LoadedModel:
    """Its blocks merge 10 of 64 patches each, which is where two nearly equal cosines may change places."""

    def tower() -> VisionTower:
        config = VisionConfig(width=192, depth=3, heads=3, hidden=768, patch=8, image_size=64)
        made = VisionTower(config, IMAGES)
        made.merge(10)
        return made

    return loaded(tower, IMAGES)


def resnet() -> LoadedModel:
    return loaded(lambda: ResNet(ResNetConfig(stem=16, widths=(32, 64), depths=(1, 2)), IMAGES), IMAGES)


NETWORKS = [bert, modern_bert, biased_bert, vit, dino, resnet]
TRANSFORMERS = NETWORKS[:-1]
MERGING = [merging_vit]


def company(model: LoadedModel, count: int = COMPANY) -> list[ModelInput]:
    draw = np.random.default_rng(0)
    if model.spec is IMAGES:
        images = draw.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
        return [ImageInput(pixels, str(i)) for i, pixels in enumerate(images)]
    texts = [draw.integers(2, 1000, 2 + i * 29 % 126, dtype=np.int32) for i in range(count)]
    return [TextInput(ids, str(i), len(ids), truncated=False) for i, ids in enumerate(texts)]


def computer(model: LoadedModel, precision: str, device: str = "cuda:0") -> Computer:
    return Computer(model, parse_outputs("pooled", model.backbone.depth), torch.device(device), precision)


def vectors(compute: Computer, inputs: Sequence[ModelInput]) -> Vectors:
    found = compute(inputs)["pooled"]
    assert isinstance(found, np.ndarray)
    return found


def exact(make: Callable[[], LoadedModel]) -> Vectors:
    model = make()
    return vectors(computer(model, "fp32", "cpu"), company(model))


def cosines(a: Vectors, b: Vectors) -> Vectors:
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


@pytest.mark.parametrize("make", NETWORKS)
def test_float32_is_that_of_the_cpu(make: Callable[[], LoadedModel]) -> None:
    model, expected = make(), exact(make)
    found = vectors(computer(model, "fp32"), company(model))
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("make", NETWORKS)
def test_sixteen_bits_are_close(make: Callable[[], LoadedModel], precision: str) -> None:
    model = make()
    assert cosines(vectors(computer(model, precision), company(model)), exact(make)).min() > 0.999


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_merging_is_close(precision: str) -> None:
    """Where two cosines are nearly equal, another pair may be merged than on the CPU: most images tell, not each."""
    found, expected = vectors(computer(merging_vit(), precision), company(merging_vit())), exact(merging_vit)
    near = cosines(found, expected)
    assert near.mean() > 0.999
    assert np.median(near) > (1 - 1e-6 if precision == "fp32" else 0.999)


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 9), reason="no products in float8"
)
@pytest.mark.parametrize("make", TRANSFORMERS + MERGING)
def test_float8_is_close_and_independent(make: Callable[[], LoadedModel]) -> None:
    model = make()
    compute, inputs = computer(model, "fp8"), company(model)
    found = vectors(compute, inputs)
    assert cosines(found, exact(make)).min() > (0.92 if make is dino else 0.95)  # in plain torch on a CPU 0.954, 0.993
    assert np.array_equal(vectors(compute, inputs[5:6])[0], found[5])


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("make", NETWORKS + MERGING)
def test_bits_are_the_same_in_any_company(make: Callable[[], LoadedModel], precision: str) -> None:
    model = make()
    compute, inputs = computer(model, precision), company(model)
    whole = vectors(compute, inputs)
    assert np.isfinite(whole).all()
    assert np.array_equal(vectors(compute, inputs), whole)
    assert np.array_equal(vectors(compute, inputs[::-1])[::-1], whole)
    assert np.array_equal(vectors(compute, inputs * 5)[:COMPANY], whole)
    for i in (0, 3, 149):
        assert np.array_equal(vectors(compute, inputs[i : i + 1])[0], whole[i])
    assert np.array_equal(vectors(computer(make(), precision), inputs), whole)


@pytest.mark.parametrize("make", NETWORKS + MERGING)
def test_networks_become_graphs(make: Callable[[], LoadedModel], caplog: pytest.LogCaptureFixture) -> None:
    model = make()
    compute = computer(model, "bf16")
    with caplog.at_level(logging.WARNING):
        vectors(compute, company(model))
    assert compute._fleet is not None
    assert compute._fleet._lanes[0]._graphs
    assert "CUDA graph" not in caplog.text


def test_every_output_comes_in_order() -> None:
    model = vit()
    outputs = parse_outputs("pooled,mean,layer:2,patches", 3, "patches")
    inputs = company(model)
    ours = Computer(model, outputs, torch.device("cuda:0"), "fp32")(inputs)
    theirs = Computer(vit(), outputs, torch.device("cpu"), "fp32")(inputs)
    for name, rows in theirs.items():
        a, b = (getattr(found, "rows", found) for found in (ours[name], rows))
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max(), name


def test_auto_takes_sixteen_bits_and_repeats_itself(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = list(draw.integers(0, 256, (600, 80, 70, 3), dtype=np.uint8))
    stores = []
    for name in ("a", "b"):
        extractor = Extractor(vit(), device="cuda:0", precision="auto")
        stores.append(extractor.embed_to(tmp_path / name, images, shard_rows=250))
    first, second = (np.asarray(EmbeddingStore(store.path).embeddings) for store in stores)
    assert stores[0].fingerprint.fields["precision"] == "bf16"
    assert stores[0].certificate is not None
    assert stores[0].certificate.cosine_mean > 0.999
    assert np.array_equal(first, second)


def test_a_smaller_budget_takes_over_where_memory_runs_out(caplog: pytest.LogCaptureFixture) -> None:
    config = VisionConfig(width=192, depth=1, heads=3, hidden=12_288, patch=4, image_size=64)  # 800 MB behind the GELU
    model, again = (loaded(lambda: VisionTower(config, IMAGES), IMAGES) for _ in range(2))
    inputs, compute = company(model, 5), computer(model, "bf16")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 500e6) / total)
    try:
        starved = vectors(compute, inputs)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert compute._fleet is not None
    assert compute._fleet.budget.items < 128
    assert "out of memory" in caplog.text
    assert cosines(starved, vectors(computer(again, "fp32", "cpu"), inputs)).min() > 0.999


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_several_gpus_share_the_work_and_agree() -> None:
    model = bert()
    inputs = company(model, 4000)
    assert np.array_equal(vectors(computer(bert(), "bf16", "cuda"), inputs), vectors(computer(model, "bf16"), inputs))
