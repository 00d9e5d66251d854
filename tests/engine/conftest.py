"""A real run that is fast: photos on disk through decoding, a network of one layer, a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coldpress import Extractor, ImageSpec, from_module
from coldpress.models import LoadedModel
from coldpress.models.vision import VisionConfig, VisionTower

SPEC = ImageSpec(("exact", 8, 8), None, "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3)


def small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 16))


@pytest.fixture(scope="session")
def photo_extractor() -> Extractor:
    return Extractor(from_module(small_network(), SPEC, name="one layer"), device="cpu")


@pytest.fixture(scope="session")
def patch_extractor() -> Extractor:
    """A vision transformer of one block over four patches, with the patches as an output."""
    config = VisionConfig(width=16, depth=1, heads=2, hidden=32, patch=4, image_size=8)
    tower = VisionTower(config, SPEC)
    draw = torch.Generator().manual_seed(0)
    for tensor in tower.parameters():
        tensor.normal_(generator=draw)
    model = LoadedModel(tower, SPEC, "tiny", {}, "0" * 64, "four patches")
    return Extractor(model, device="cpu", precision="fp32", output="pooled,patches")


@pytest.fixture(scope="session")
def paint() -> Callable[[Path, int], Path]:
    """Write photo number n; the same number gives the same bytes."""

    def write(path: Path, number: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, quality=90)
        return path

    return write


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    """Every file of a directory with its bytes."""
    return lambda root: {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
