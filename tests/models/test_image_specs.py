"""What a preprocessor_config.json says gives the pixel values of the upstream (PIL) processor on real photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.mobilenet_v1.image_processing_pil_mobilenet_v1 import MobileNetV1ImageProcessorPil
from transformers.models.mobilenet_v2.image_processing_pil_mobilenet_v2 import MobileNetV2ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from coldpress.errors import ModelError
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
    "convnext": (ConvNextImageProcessorPil, {"size": {"shortest_edge": 224}, "crop_pct": 0.875}),
    "convnext-288": (ConvNextImageProcessorPil, {"size": {"shortest_edge": 288}, "crop_pct": 0.95, "resample": 2}),
    "convnext-384": (ConvNextImageProcessorPil, {}),
    "mobilenet_v1": (MobileNetV1ImageProcessorPil, {}),
    "mobilenet_v2": (MobileNetV2ImageProcessorPil, {}),
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


@pytest.mark.parametrize("most", [256, 100])
def test_images_that_keep_their_shapes_are_cut_into_the_same_patches(most: int, shared: Path, tmp_path: Path) -> None:
    processor = Siglip2ImageProcessorPil(max_num_patches=most)
    processor.save_pretrained(tmp_path)
    spec = read_image_spec(tmp_path)
    assert (spec.resize, spec.size) == (("patches", 16, most), None)
    photos = sorted((shared / "imagenet_sample").rglob("*.[jJ][pP]*"))[::15]
    odd = [Image.new("RGB", size, "red") for size in ((1, 1), (3, 900), (1000, 2))]
    inputs = ImagePreprocessor(spec, threads=2)([*(FileRef(str(photo)) for photo in photos), *odd])
    mean, std = np.float32(spec.mean), np.float32(spec.std)
    for image, prepared in zip([*map(Image.open, photos), *odd], inputs, strict=True):
        expected = processor(image.convert("RGB"), return_tensors="np")
        values = ((prepared.pixels * spec.rescale).astype(np.float32) - mean) / std
        rows, columns = (side // 16 for side in values.shape[:2])
        cut = values.reshape(rows, 16, columns, 16, 3).transpose(0, 2, 1, 3, 4).reshape(rows * columns, -1)
        assert expected["spatial_shapes"][0].tolist() == [rows, columns]
        assert np.array_equal(cut, expected["pixel_values"][0][: rows * columns])


@pytest.mark.parametrize(
    "changed",
    [{"image_processor_type": "LevitImageProcessor"}, {"image_processor_type": "PoolFormerImageProcessor"},
     {"image_processor_type": "EfficientNetImageProcessor", "include_top": True}],
)  # fmt: skip
def test_processors_with_steps_of_their_own_are_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    stated = {"size": {"shortest_edge": 224}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "crop_pct": 0.9}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated | changed))
    with pytest.raises(ModelError, match="is not supported"):
        read_image_spec(tmp_path)
