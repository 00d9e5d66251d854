"""int8 of networks without a native family."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from conformance import randomise, torch_threads
from torch import nn

from coldpress import models
from coldpress.errors import MissingExtra, ModelError
from coldpress.models.base import Backbone
from coldpress.types import ImageBatch, ImageSpec, Output

SPEC = ImageSpec(("exact", 24, 32), None, "bilinear", 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
POOLED = [Output("pooled", None, "model")]
MISSING = importlib.util.find_spec("openvino") is None
needs_openvino = pytest.mark.skipif(MISSING, reason="openvino is not installed")


def network() -> nn.Module:
    first = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU6())
    deep = nn.Sequential(nn.Conv2d(16, 16, 3, groups=16, stride=2), nn.BatchNorm2d(16), nn.Conv2d(16, 32, 1))
    return nn.Sequential(first, deep, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 24))


@pytest.fixture
def exact() -> Backbone:
    return models.from_module(randomise(network()), SPEC, name="mine").backbone


@pytest.fixture
def batch() -> ImageBatch:
    draw = torch.Generator().manual_seed(4)
    return ImageBatch(torch.randint(0, 256, (7, 24, 32, 3), dtype=torch.uint8, generator=draw))


@needs_openvino
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_rows_depend_on_their_image_alone(exact: Backbone, batch: ImageBatch, threads: int) -> None:
    int8 = exact.quantized(exact.calibrate(batch, POOLED), POOLED)
    vectors = int8(batch, POOLED)["pooled"]
    wanted = exact(batch, POOLED)["pooled"]
    assert torch.nn.functional.cosine_similarity(vectors, wanted).min() > 0.99
    assert not torch.equal(vectors, wanted)
    with torch_threads(threads):
        assert torch.equal(int8(batch, POOLED)["pooled"], vectors)
        for b in range(len(batch)):
            assert torch.equal(int8(ImageBatch(batch.pixels[b : b + 1]), POOLED)["pooled"][0], vectors[b])


@needs_openvino
def test_ranges_are_all_that_calibration_decides(exact: Backbone, batch: ImageBatch) -> None:
    ranges = exact.calibrate(batch, POOLED)
    assert len(ranges) == 4  # three convolutions and a linear layer
    assert all(low <= 0 <= high for low, high in ranges.values())
    again = models.from_module(randomise(network()), SPEC, name="mine").backbone
    ours, theirs = (b.quantized(ranges, POOLED)(batch, POOLED)["pooled"] for b in (exact, again))
    assert torch.equal(ours, theirs)


class Fork(nn.Module):
    """Two convolutions that read one value, the maximum of another, and a sum of both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(3, 2))
        self.left, self.right = nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(16, 32, 1)
        self.last = nn.Conv2d(32, 24, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.stem(pixels)
        out: torch.Tensor = self.last(torch.relu(self.left(x) + self.right(x)))
        return out


@needs_openvino
def test_layers_may_share_their_input(batch: ImageBatch) -> None:
    fork = models.from_module(randomise(Fork()), SPEC, name="fork").backbone
    ranges = fork.calibrate(batch, POOLED)
    assert len(ranges) == 5  # the pixels, what both read, both sides of the sum, the sum
    vectors = fork.quantized(ranges, POOLED)(batch, POOLED)["pooled"]
    assert torch.nn.functional.cosine_similarity(vectors, fork(batch, POOLED)["pooled"]).min() > 0.99


@needs_openvino
def test_the_calibration_of_another_network_is_refused(exact: Backbone, batch: ImageBatch) -> None:
    with pytest.raises(ModelError, match="that of another network"):
        exact.quantized({"other": (0.0, 1.0)}, POOLED)(batch, POOLED)


@pytest.mark.skipif(not MISSING, reason="openvino is installed")
def test_without_the_extra_int8_says_what_to_install(exact: Backbone, batch: ImageBatch) -> None:
    assert exact.runnable() == ("fp32",)
    with pytest.raises(MissingExtra, match=r"pip install 'coldpress\[openvino\]'"):
        exact.calibrate(batch, POOLED)


def test_a_network_without_convolutions_stays_exact() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(24 * 32 * 3, 8))
    assert models.from_module(flat, SPEC, name="flat").backbone.precisions == ("fp32",)
