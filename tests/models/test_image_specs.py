"""What a preprocessor_config.json says gives the pixel values of the upstream (PIL) processor on real photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from coldpress.models.specs import read_image_spec
from coldpress.preprocess.image import ImagePreprocessor
from coldpress.types import FileRef

PROCESSORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (ViTImageProcessorPil, {}),
    "deit": (DeiTImageProcessorPil, {"size": {"height": 256, "width": 256}, "resample": 3}),
    "dinov2": (BitImageProcessorPil, {"size": {"shortest_edge": 256}, "resample": 3}),
    "clip": (CLIPImageProcessorPil, {}),
    "clip-336": (CLIPImageProcessorPil, {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}),
    "siglip": (SiglipImageProcessorPil, {}),
    "siglip-384": (SiglipImageProcessorPil, {"size": {"height": 384, "width": 384}}),
    "siglip2": (SiglipImageProcessorPil, {"resample": 2}),
}


@pytest.mark.parametrize("layout", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize("name", PROCESSORS)
def test_pixel_values_are_those_of_the_processor(name: str, layout: str, shared: Path, tmp_path: Path) -> None:
    kind, options = PROCESSORS[name]
    processor = kind(**options)
    processor.save_pretrained(tmp_path)
    if layout != "preprocessor_config.json":
        text = (tmp_path / "preprocessor_config.json").read_text()
        (tmp_path / layout).write_text(f'{{"image_processor": {text}, "processor_class": "CLIPProcessor"}}')
        (tmp_path / "preprocessor_config.json").unlink()
    spec = read_image_spec(tmp_path)
    photos = sorted((shared / "imagenet_sample").rglob("*.[jJ][pP]*"))[::15]
    inputs = ImagePreprocessor(spec, threads=2)([FileRef(str(photo)) for photo in photos])
    mean, std = np.float32(spec.mean), np.float32(spec.std)
    for photo, prepared in zip(photos, inputs, strict=True):
        (expected,) = processor(Image.open(photo).convert("RGB"), return_tensors="np")["pixel_values"]
        values = ((prepared.pixels * spec.rescale).astype(np.float32) - mean) / std
        assert np.array_equal(values.transpose(2, 0, 1), expected)
