"""`image_size`: images of another size than the model's own, positions resampled as upstream does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance import randomise, write_files
from PIL import Image
from test_vit import PLAIN, SIZES, processor
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ResNetConfig,
    ResNetModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from coldpress import EmbeddingStore, Extractor, VectorIndex, models
from coldpress.cli._extractors import extractor_for
from coldpress.errors import ModelError
from coldpress.models.options import with_image_size
from coldpress.preprocess.resize import fit_patches
from coldpress.types import ImageSpec

PHOTOS = [
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (50 + 9 * i, 80 - 7 * i, 3), dtype=np.uint8))
    for i in range(5)
]
CNN: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: ViTModel(ViTConfig(**PLAIN), add_pooling_layer=False),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=2)),
    "registers": lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SIZES, mlp_ratio=2)),
    "dinov3": lambda: DINOv3ViTModel(DINOv3ViTConfig(**PLAIN | {"hidden_size": 48})),
    "clip": lambda: CLIPVisionModel(CLIPVisionConfig(**PLAIN)),
    "siglip": lambda: SiglipVisionModel(SiglipVisionConfig(**PLAIN)),
    "resnet": lambda: ResNetModel(ResNetConfig(**CNN)),
}
RESAMPLED = {"vit", "dinov2", "registers", "clip", "siglip"}


def saved(name: str, directory: Path, files: Any) -> nn.Module:
    model = randomise(NETWORKS[name]().eval())
    model.save_pretrained(directory)
    write_files(directory, files)
    return model


def upstream_vector(model: nn.Module, pixels: torch.Tensor, name: str) -> torch.Tensor:
    with torch.no_grad():
        result = model(pixels, **({"interpolate_pos_encoding": True} if name in RESAMPLED else {}))
    if name in ("resnet", "siglip", "clip"):
        return result.pooler_output.flatten(1)  # type: ignore[no-any-return]
    return result.last_hidden_state[:, 0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [48, (24, 56), 30, 32])
@pytest.mark.parametrize("name", NETWORKS)
def test_is_upstream_at_that_size(name: str, size: Any, tmp_path: Path) -> None:
    """Its processor asked for that size, its positions interpolated."""
    model = saved(name, tmp_path, processor())
    height, width = (size, size) if isinstance(size, int) else size
    edge = round(40 * max(height, width) / 32)
    upstream = BitImageProcessorPil(
        size={"shortest_edge": edge}, crop_size={"height": height, "width": width}, resample=3,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip
    expected = upstream_vector(model, upstream(PHOTOS, return_tensors="pt")["pixel_values"], name)
    ours = Extractor(tmp_path, precision="fp32", image_size=size).embed(PHOTOS)
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-5 * float(expected.abs().max()))


def test_a_processor_that_does_not_crop_resizes_to_it(tmp_path: Path) -> None:
    sides = {"height": 32, "width": 32}
    stated = {"size": sides, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_center_crop": False}
    model = saved("vit", tmp_path, {"preprocessor_config.json": stated})
    upstream = ViTImageProcessorPil(size={"height": 40, "width": 64})
    expected = upstream_vector(model, upstream(PHOTOS, return_tensors="pt")["pixel_values"], "vit")
    ours = Extractor(tmp_path, precision="fp32", image_size=(40, 64)).embed(PHOTOS)
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-5 * float(expected.abs().max()))


def spec(resize: tuple[Any, ...] | None, crop: tuple[int, int] | None) -> ImageSpec:
    return ImageSpec(resize, crop, "bicubic", 1 / 255, (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("before", "size", "after"),
    [
        (spec(("shortest_edge", 256), (224, 224)), 448, spec(("shortest_edge", 512), (448, 448))),
        (spec(("shortest_edge", 256), (224, 224)), (224, 448), spec(("shortest_edge", 512), (224, 448))),
        (spec(("shortest_edge", 224), None), 384, spec(("shortest_edge", 384), (384, 384))),
        (spec(("exact", 224, 224), None), (196, 320), spec(("exact", 196, 320), None)),
        (spec(("exact", 256, 256), (224, 224)), (112, 224), spec(("exact", 128, 256), (112, 224))),
        (spec(None, (224, 224)), 96, spec(None, (96, 96))),
    ],
)
def test_what_becomes_of_resizing_and_cropping(before: ImageSpec, size: Any, after: ImageSpec) -> None:
    assert with_image_size(before, size, 16) == after
    if before.size is not None:
        assert with_image_size(before, before.size, 16) == before


def test_it_is_another_space_and_a_store_finds_it_again(tmp_path: Path) -> None:
    saved("vit", tmp_path / "vit", processor())
    plain, same, wide = (Extractor(tmp_path / "vit", precision="int8", image_size=s) for s in (None, 32, (24, 48)))
    assert plain.fingerprint == same.fingerprint
    assert "preprocessing.crop: [32, 32] != [24, 48]" in plain.fingerprint.diff(wide.fingerprint)
    store: EmbeddingStore = wide.embed_to(tmp_path / "store", PHOTOS, dtype="float32")
    again = extractor_for(VectorIndex.build(store))
    np.testing.assert_array_equal(again.embed(PHOTOS), np.asarray(store.embeddings))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "resnet"])
def test_images_in_their_own_shapes_are_upstream_at_the_size_of_each(name: str, tmp_path: Path) -> None:
    model = saved(name, tmp_path, processor())
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = []
    for photo in PHOTOS:
        height, width = fit_patches(photo.height, photo.width, 8, 24)
        resized = np.array(photo.resize((width, height), Image.Resampling.BICUBIC))
        pixels = (torch.from_numpy(resized).permute(2, 0, 1) / 255 - mean) / std
        expected.append(upstream_vector(model, pixels[None], name))
    extractor = Extractor(tmp_path, precision="fp32", image_size="native:24")
    ours, wanted = extractor.embed(PHOTOS), torch.cat(expected)
    np.testing.assert_allclose(ours, wanted, rtol=2e-5, atol=2e-5 * float(wanted.abs().max()))
    for i, photo in enumerate(PHOTOS):
        np.testing.assert_array_equal(extractor.embed([photo])[0], ours[i])


def test_own_shapes_have_as_many_patches_as_the_size_before(tmp_path: Path) -> None:
    saved("dinov2", tmp_path, processor())
    draw = np.random.default_rng(3)
    wide, tall = (draw.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((16, 64), (64, 16)))
    store = Extractor(tmp_path, precision="int16", image_size="native", output="patches").embed_to(
        tmp_path / "store", [wide, tall], dtype="float32"
    )
    assert store.fingerprint.fields["preprocessing"]["resize"] == ["patches", 8, 16]
    assert [len(store.output("patches")[row]) for row in (0, 1)] == [16, 16]  # 2 by 8 and 8 by 2 of 4 by 4
    assert with_image_size(spec(("patches", 16, 256), None), "native:100", 16).resize == ("patches", 16, 100)
    assert with_image_size(spec(("patches", 16, 256), None), "native", 16).resize == ("patches", 16, 256)


def test_sizes_that_cannot_be_are_refused(tmp_path: Path, minilm: Path) -> None:
    saved("vit", tmp_path, processor())
    with pytest.raises(ModelError, match=r"images of \(7, 40\), expected a fixed size from the patch size 8 on"):
        Extractor(tmp_path, image_size=(7, 40))
    for size, shown in ((0, "0x0"), ((1, 2, 3), "1x2x3"), ((-8, 8), "-8x8")):
        with pytest.raises(ModelError, match=f"image_size is {shown}, expected the side of a square, or height"):
            Extractor(tmp_path, image_size=size)
    with pytest.raises(ModelError, match="image_size is 64, and this network takes texts"):
        Extractor(minilm, image_size=64)
    with pytest.raises(ModelError, match="takes images that keep their shapes"):
        with_image_size(spec(("patches", 16, 256), None), 64, 16)
    with pytest.raises(ModelError, match="expected a side, a height and a width, native or native:N"):
        Extractor(tmp_path, image_size="native:0")
    with pytest.raises(ModelError, match="merge_tokens is 2, and the patches of this network are of images that keep"):
        Extractor(tmp_path, image_size="native", merge_tokens=2)
    saved("resnet", tmp_path / "resnet", processor())
    with pytest.raises(ModelError, match="this network is convolutional"):
        Extractor(tmp_path / "resnet", image_size="native")
    with pytest.raises(ModelError, match=r"image_size is 64, and .* is a module as a whole"):
        Extractor(models.load(tmp_path), image_size=64)
