"""ResNet: tiny cases for the conformance suite, and the names of torchvision."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conformance import Case, equal, load_ready, randomise, write_files
from safetensors.torch import load_file, save_file
from test_vit import processor
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from coldpress.errors import ModelError
from coldpress.types import ImageBatch, Output

BOTTLENECK: dict[str, Any] = {"embedding_size": 12, "hidden_sizes": [16, 24, 40], "depths": [2, 1, 2]}
BASIC: dict[str, Any] = BOTTLENECK | {"layer_type": "basic"}

CASES = [
    Case("bottleneck", "resnet", lambda: ResNetModel(ResNetConfig(**BOTTLENECK)), processor(), "mean"),
    Case("basic", "resnet", lambda: ResNetModel(ResNetConfig(**BASIC)), processor(), "mean"),
    Case("four_stages", "resnet",
         lambda: ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 72, 16, 68], depths=[1, 1, 1, 2])),
         processor(40, 40), "mean"),
    Case("winograd", "resnet",
         lambda: ResNetModel(ResNetConfig(**BASIC | {"hidden_sizes": [40, 72], "depths": [2, 2]})),
         processor(64, 40), "mean"),
    Case("task_head", "resnet", lambda: ResNetForImageClassification(ResNetConfig(**BASIC)), processor(), "mean"),
    Case("wide", "resnet", lambda: ResNetModel(ResNetConfig(**BOTTLENECK)), processor(24, 40), "mean"),
    Case("odd", "resnet", lambda: ResNetModel(ResNetConfig(**BOTTLENECK)), processor(33, 35), "mean"),
    Case("silu", "resnet", lambda: ResNetModel(ResNetConfig(**BASIC, hidden_act="silu")), processor(), "mean"),
    Case("strides", "resnet",
         lambda: ResNetModel(ResNetConfig(**BOTTLENECK, downsample_in_first_stage=True, downsample_in_bottleneck=True)),
         processor(48, 48), "mean"),
]  # fmt: skip

_NAMES = (
    (r"^resnet\.", ""),
    (r"^embedder\.embedder\.convolution", "conv1"),
    (r"^embedder\.embedder\.normalization", "bn1"),
    (r"^encoder\.stages\.(\d)\.layers\.", lambda m: f"layer{int(m[1]) + 1}."),
    (r"\.shortcut\.convolution", ".downsample.0"),
    (r"\.shortcut\.normalization", ".downsample.1"),
    (r"\.layer\.(\d)\.convolution", lambda m: f".conv{int(m[1]) + 1}"),
    (r"\.layer\.(\d)\.normalization", lambda m: f".bn{int(m[1]) + 1}"),
    (r"^classifier\.1", "fc"),
)


def torchvision_name(name: str) -> str:
    for pattern, theirs in _NAMES:
        name = re.sub(pattern, theirs, name)
    return name


@pytest.mark.parametrize("sizes", [BASIC, BOTTLENECK], ids=["basic", "bottleneck"])
def test_torchvision_and_timm_names_are_read(tmp_path: Path, sizes: dict[str, Any]) -> None:
    randomise(ResNetForImageClassification(ResNetConfig(**sizes)).eval()).save_pretrained(tmp_path)
    write_files(tmp_path, processor())
    batch = ImageBatch(torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8))
    outputs = [Output("pooled", None, "model"), Output("layer:2", 2, "model")]
    ours = load_ready(tmp_path).backbone(batch, outputs)
    tensors = {torchvision_name(n): t for n, t in load_file(tmp_path / "model.safetensors").items()}
    assert {"conv1.weight", "bn1.running_var", "layer2.0.downsample.0.weight", "fc.bias"} <= tensors.keys()
    save_file(tensors, tmp_path / "model.safetensors")
    assert equal(load_ready(tmp_path).backbone(batch, outputs), ours)


def test_there_is_no_class_token(tmp_path: Path) -> None:
    ResNetModel(ResNetConfig(**BASIC)).save_pretrained(tmp_path)
    write_files(tmp_path, processor())
    loaded = load_ready(tmp_path)
    assert [loaded.backbone.dim(Output("x", layer, "model")) for layer in (1, 2, 3, None)] == [16, 24, 40, 40]
    with pytest.raises(ModelError, match="no such token; use pooled or mean"):
        loaded.backbone(ImageBatch(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)), [Output("cls", None, "cls")])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [BASIC, BOTTLENECK], ids=["basic", "bottleneck"])
def test_int8_is_close_on_any_weights(tmp_path: Path, sizes: dict[str, Any], seed: int) -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(seed)
    ResNetModel(ResNetConfig(**sizes)).save_pretrained(tmp_path)
    write_files(tmp_path, processor())
    batch = ImageBatch(torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8))
    outputs = [Output("pooled", None, "model"), Output("layer:2", 2, "model")]
    exact = load_ready(tmp_path).backbone
    int8 = exact.quantized(exact.calibrate(batch, outputs), outputs)(batch, outputs)
    for name, wanted in exact(batch, outputs).items():
        assert torch.nn.functional.cosine_similarity(int8[name], wanted).min() > 0.995
