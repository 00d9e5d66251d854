"""MobileNet: tiny cases for the conformance suite, and version 2 with real weights on real photos."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from conformance import Case, torch_threads
from test_vit import processor
from torch import nn
from transformers import (
    MobileNetV1Config,
    MobileNetV1ForImageClassification,
    MobileNetV1Model,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2Model,
)

from coldpress import models
from coldpress.preprocess.image import ImagePreprocessor
from coldpress.types import FileRef, ImageBatch, Output

POOLED = [Output("pooled", None, "model")]
SMALL: dict[str, Any] = {"depth_multiplier": 0.25}


def v1_blocks(body: nn.Module) -> list[nn.Module]:
    """The second convolution of every pair."""
    return list(body.layer)[1::2]


def v1(name: str, build: Any, size: int = 32, **options: Any) -> Case:
    return Case(
        name,
        "mobilenet",
        lambda: build(MobileNetV1Config(**(SMALL | options))),
        processor(size, size),
        "mean",
        blocks=v1_blocks,
    )


def v2(name: str, build: Any, size: tuple[int, int] = (32, 32), **options: Any) -> Case:
    return Case(name, "mobilenet", lambda: build(MobileNetV2Config(**(SMALL | options))), processor(*size), "mean")


CASES = [  # few: each has 130 to 270 tensors, and the suite loads the model anew for every one
    v1("v1", MobileNetV1ForImageClassification, 37),
    v1("v1_half_padding", MobileNetV1Model, tf_padding=False, hidden_act="relu", min_depth=12),
    v2("v2", MobileNetV2ForImageClassification, (45, 32)),
    v2("v2_dilated", MobileNetV2Model, (48, 40), output_stride=8),
    v2("v2_half_padding", MobileNetV2Model, tf_padding=False, finegrained_output=False,
       first_layer_is_expansion=False, expand_ratio=3.0),
]  # fmt: skip


@pytest.fixture(scope="module")
def mobilenet(shared: Path) -> SimpleNamespace:
    """MobileNetV2 with real weights, the 311 photos as we prepare them, and our features of them."""
    directory = shared / "models" / "mobilenet_v2_1.0_224_imagenet"
    with (shared / "imagenet_sample" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    files = [shared / "imagenet_sample" / "images" / row["file"] for row in rows]
    loaded = models.load(directory)
    loaded.backbone.prepare()
    inputs = ImagePreprocessor(loaded.spec, threads=2)([FileRef(str(file)) for file in files])
    pixels = torch.from_numpy(np.stack([i.pixels for i in inputs]))
    return SimpleNamespace(
        directory=directory,
        loaded=loaded,
        files=files,
        classes=torch.tensor([int(row["class_index"]) for row in rows]),
        pixels=pixels,
        features=loaded.backbone(ImageBatch(pixels), POOLED)["pooled"],
    )


@pytest.fixture(scope="module")
def upstream(mobilenet: SimpleNamespace) -> SimpleNamespace:
    """What transformers makes of the same photos: pixel values, and features one photo at a time."""
    from transformers.models.mobilenet_v2.image_processing_pil_mobilenet_v2 import MobileNetV2ImageProcessorPil

    processor = MobileNetV2ImageProcessorPil.from_pretrained(mobilenet.directory)
    network = MobileNetV2ForImageClassification.from_pretrained(mobilenet.directory).eval()
    values = []
    for file in mobilenet.files:
        with PIL.Image.open(file) as image:
            values.append(torch.as_tensor(np.asarray(processor(image.convert("RGB"))["pixel_values"])))
    with torch.no_grad(), torch_threads(1):
        features = torch.cat([network.mobilenet_v2(v).pooler_output for v in values])
    return SimpleNamespace(network=network, values=torch.cat(values), features=features)


@pytest.mark.slow
def test_mobilenet_gets_the_values_of_its_own_processor(mobilenet: SimpleNamespace, upstream: SimpleNamespace) -> None:
    fed = models.from_module(nn.Flatten(), mobilenet.loaded.spec, name="values").backbone
    assert torch.equal(fed(ImageBatch(mobilenet.pixels), POOLED)["pooled"], upstream.values.flatten(1))


@pytest.mark.slow
def test_mobilenet_features_are_those_of_transformers(mobilenet: SimpleNamespace, upstream: SimpleNamespace) -> None:
    """One photo at a time: in batches of 32 transformers differs from itself by 1.3e-5."""
    error = (mobilenet.features - upstream.features).abs().max()
    assert error <= 1e-5 * upstream.features.abs().max()


@pytest.mark.slow
def test_mobilenet_top_1_is_that_of_transformers(mobilenet: SimpleNamespace, upstream: SimpleNamespace) -> None:
    background = 1  # index 0 of 1001 classes
    ours, theirs = (
        upstream.network.classifier(features).argmax(1) - background
        for features in (mobilenet.features, upstream.features)
    )
    assert torch.equal(ours, theirs)
    assert int((ours == mobilenet.classes).sum()) == 276  # 88.7 % of 311


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_mobilenet_rows_depend_on_their_photo_alone(mobilenet: SimpleNamespace, threads: int) -> None:
    backbone, chosen = mobilenet.loaded.backbone, [5, 0, 99, 310, 17, 200, 42]
    with torch_threads(threads):
        together = backbone(ImageBatch(mobilenet.pixels[chosen]), POOLED)["pooled"]
        alone = [backbone(ImageBatch(mobilenet.pixels[[i]]), POOLED)["pooled"] for i in chosen[:3]]
    assert torch.equal(together, mobilenet.features[chosen])
    assert torch.equal(torch.cat(alone), mobilenet.features[chosen[:3]])
