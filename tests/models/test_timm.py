"""Models with timm's names: directories for the hub, single files with an architecture, and timm's preprocessing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance import K, write_files
from safetensors.torch import load_file

import coldpress
from coldpress import models
from coldpress.errors import ModelError
from coldpress.models.timm_files import read_timm_spec
from coldpress.preprocess.image import ImagePreprocessor
from coldpress.types import FileRef, ImageBatch, Output

TINY: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
INCEPTION = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
MODELS = {
    "vit": ("vit_tiny_patch16_224", {}),
    "mean": ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg", "init_values": 1e-5}),
    "no_bias": ("vit_small_patch16_224", {"qkv_bias": False}),
    "deit": ("deit_tiny_patch16_224", {}),
    "distilled": ("deit_tiny_distilled_patch16_224", {}),
    "deit3": ("deit3_small_patch16_224", {}),
    "dinov2": ("vit_small_patch14_dinov2", {}),
    "registers": ("vit_small_patch14_reg4_dinov2", {}),
    "swiglu": ("vit_giant_patch14_dinov2", {}),
    "clip": ("vit_base_patch32_clip_224", {}),
    "quick_gelu": ("vit_base_patch32_clip_quickgelu_224", {}),
    "dinov3": ("vit_small_patch16_dinov3", {}),
    "dinov3_biases": ("vit_small_patch16_dinov3_qkvb", {"global_pool": "token"}),
    "dinov3_gated": ("vit_small_plus_patch16_dinov3", {}),
    "siglip": ("vit_base_patch16_siglip_224", {}),
    "siglip_tanh": ("vit_large_patch16_siglip_512", {}),
    "siglip_mean": ("vit_so400m_patch14_siglip_gap_224", {}),
}
CFGS = [
    {"input_size": [3, 224, 224], "crop_pct": 0.9, "interpolation": "bicubic", **INCEPTION},
    {"input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bilinear", **IMAGENET},
    {"input_size": [3, 98, 98], "crop_pct": 1.0, "interpolation": "bicubic", **IMAGENET},
    {"input_size": [3, 224, 224], "crop_pct": 0.9, "crop_mode": "squash", "interpolation": "bicubic", **INCEPTION},
    {"input_size": [3, 96, 64], "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic", **INCEPTION},
]
POOLED = [Output("pooled", None, "model")]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """What timm wrote: a directory a model, and the values of photos; see upstream_timm.py."""
    folder = os.environ.get("COLDPRESS_TIMM")
    if not folder:
        pytest.skip("COLDPRESS_TIMM names no folder with timm and torchvision")
    out = tmp_path_factory.mktemp("timm")
    cfg = {"input_size": [3, 32, 32], "crop_pct": 0.9, "interpolation": "bicubic", **INCEPTION}
    asked = [{"name": n, "architecture": a, "args": TINY | args, "cfg": cfg} for n, (a, args) in MODELS.items()]
    request = {"models": asked, "photos": [str(photo) for photo in photos(shared)], "cfgs": CFGS}
    (out / "request.json").write_text(json.dumps(request))
    script = Path(__file__).with_name("upstream_timm.py")
    subprocess.run([sys.executable, str(script), folder, str(out)], check=True, timeout=600)
    return out


def photos(shared: Path) -> list[Path]:
    return sorted((shared / "imagenet_sample").rglob("*.[jJ][pP]*"))[::10]


@pytest.mark.parametrize("name", MODELS)
def test_vectors_are_within_k_of_timms_own_error(upstream: Path, name: str) -> None:
    expected = np.load(upstream / name / "vectors.npz")
    loaded = models.load(upstream / name)
    loaded.backbone.prepare()
    ours = loaded.backbone(ImageBatch(torch.from_numpy(expected["pixels"])), POOLED)["pooled"].numpy()
    exact = expected["float64"]
    own, error = np.abs(expected["float32"] - exact).max(), np.abs(ours - exact).max()
    assert loaded.family == "vit"
    assert error <= max(K * own, 4 * np.finfo(np.float32).eps * np.abs(exact).max())
    assert error <= 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("number", range(len(CFGS)))
def test_pixels_are_those_of_timms_transform(upstream: Path, shared: Path, number: int) -> None:
    spec = read_timm_spec({"pretrained_cfg": CFGS[number]}, upstream)
    inputs = ImagePreprocessor(spec, threads=2)([FileRef(str(photo)) for photo in photos(shared)])
    mean, std = np.float32(spec.mean), np.float32(spec.std)
    for prepared, expected in zip(inputs, np.load(upstream / f"values-{number}.npy"), strict=True):
        values = (prepared.pixels.astype(np.float32) / np.float32(255) - mean) / std
        assert np.array_equal(values.transpose(2, 0, 1), expected)


NANO = {
    "architecture": "vit_tiny_patch16_224",
    "global_pool": "avg",
    "model_args": TINY | {"patch_size": 16, "embed_dim": 32, "depth": 3, "num_heads": 4, "class_token": False,
                          "init_values": 1e-5},
    "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 1.0, "interpolation": "bilinear", **INCEPTION},
}  # fmt: skip


@pytest.fixture
def nanovit(shared: Path, tmp_path: Path) -> Path:
    """A real small ViT as a directory in timm's layout."""
    shutil.copyfile(shared / "models" / "cifar10_nanovit_timm" / "model.safetensors", tmp_path / "model.safetensors")
    write_files(tmp_path, {"config.json": NANO})
    return tmp_path


def test_a_real_model_has_its_published_accuracy(nanovit: Path, shared: Path) -> None:
    images, labels = cifar_test(shared)
    head = load_file(nanovit / "model.safetensors")
    vectors = torch.from_numpy(coldpress.Extractor(nanovit, precision="fp32").embed(images))
    classes = (vectors @ head["head.weight"].T + head["head.bias"]).argmax(1)
    assert (classes == torch.tensor(labels)).float().mean().item() == pytest.approx(0.494, abs=0.001)


def cifar_test(shared: Path) -> tuple[list[bytes], list[int]]:
    with tarfile.open(shared / "cifar10" / "cifar10-test-000000.tar") as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    names = [name for name in content if name.endswith(".jpg")]
    return [content[name] for name in names], [int(content[name.replace(".jpg", ".cls")]) for name in names]


@pytest.mark.parametrize("wrapped", [None, "model", "state_dict"])
def test_a_single_file_with_a_directory_that_says_what_it_is(
    nanovit: Path, tmp_path: Path, wrapped: str | None
) -> None:
    images = [np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8)]
    expected = coldpress.Extractor(nanovit, precision="fp32").embed(images)
    tensors = load_file(nanovit / "model.safetensors")
    file = tmp_path / "weights.pth"
    torch.save({wrapped: tensors, "epoch": 3} if wrapped else tensors, file)
    for single in (file, nanovit / "model.safetensors"):
        assert np.array_equal(coldpress.Extractor(single, arch=str(nanovit), precision="fp32").embed(images), expected)


@pytest.mark.parametrize(
    ("name", "crop", "cfg"),
    [
        ("vit_tiny_patch16_224.augreg_in21k", 0.9, INCEPTION),
        ("vit_base_patch16_224.dino", 0.9, IMAGENET),
        ("vit_base_patch16_384.augreg_in1k", 1.0, INCEPTION),
        ("deit_tiny_patch16_224", 0.9, IMAGENET),
        ("deit3_small_patch16_224.fb_in22k_ft_in1k", 1.0, IMAGENET),
        ("vit_small_patch14_dinov2", 1.0, IMAGENET),
        ("vit_small_patch16_dinov3.lvd1689m", 1.0, IMAGENET),
        ("vit_base_patch16_siglip_384.v2_webli", 0.9, INCEPTION),
    ],
)
def test_a_tag_says_how_images_are_prepared(name: str, crop: float, cfg: dict[str, Any], tmp_path: Path) -> None:
    spec = read_timm_spec(models.loading.named_architecture(name, models.loading.family_of), tmp_path)
    assert (list(spec.mean), list(spec.std)) == (cfg["mean"], cfg["std"])
    assert spec.crop is not None
    assert spec.resize == ("shortest_edge", int(spec.crop[0] / crop))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("vit_base_patch16_224", ["got no tag", "expected timm's tag behind a dot (augreg, orig, sam, dino, mae)"]),
        ("vit_base_patch16_224.bamboo", ["got bamboo"]),
        ("deit3_base_patch16_224", ["got no tag", "fb_in1k, fb_in22k_ft_in1k"]),
        ("vit_base_patch32_clip_224.openai", ["depends on its weights", "a directory with timm's config.json"]),
    ],
)
def test_preprocessing_is_not_guessed(name: str, parts: list[str], tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        models.load(saved(tmp_path, {}), arch=name)
    assert all(part in str(error.value) for part in parts)


def test_a_single_file_with_the_name_of_its_architecture(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"weights\.pth: the weights do not fit config\.json; missing: blocks\.0\."):
        models.load(saved(tmp_path, {"norm.weight": torch.zeros(192)}), arch="deit_tiny_patch16_224")


def test_the_older_layout_has_its_settings_at_the_top(tmp_path: Path) -> None:
    assert read_timm_spec({"pretrained_cfg": CFGS[1]}, tmp_path) == read_timm_spec(CFGS[1], tmp_path)
    with pytest.raises(ModelError, match="mean is None, expected three numbers"):
        read_timm_spec({"architecture": "vit_base_patch16_224"}, tmp_path)


def saved(directory: Path, tensors: dict[str, torch.Tensor]) -> Path:
    torch.save(tensors, directory / "weights.pth")
    return directory / "weights.pth"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "swin_tiny_patch4_window7_224"}, "'swin_tiny_patch4_window7_224' is not known here.*vit"),
        ({"model_args": {"mlp_layer": "x"}}, "model_args has mlp_layer; expected only"),
        ({"global_pool": "max"}, "global_pool 'max', expected one of token, avg, map"),
        ({"model_args": {"img_size": [32, 64]}}, r"img_size \[32, 64\], expected one number"),
        ({"model_args": {"in_chans": 1}}, "in_chans 1, expected 3"),
        ({"pretrained_cfg": {"crop_mode": "border"}}, "crop_mode 'border'"),
        ({"pretrained_cfg": {"input_size": [3, 32, 64]}}, "expected a square"),
        ({"model_args": NANO["model_args"] | {"depth": 4}}, r"missing: blocks\.3\."),
        ({"model_args": NANO["model_args"] | {"embed_dim": 64}}, r"wrong shape: .*pos_embed is \(1, 4, 32\), not"),
        ({"global_pool": "token"}, r"unexpected: fc_norm"),
    ],
)
def test_what_is_wrong_is_named(nanovit: Path, changed: dict[str, Any], message: str) -> None:
    write_files(nanovit, {"config.json": NANO | changed})
    with pytest.raises(ModelError, match=message):
        models.load(nanovit)


def test_texts_are_refused(nanovit: Path) -> None:
    with pytest.raises(ModelError, match="takes images, expected a model for texts"):
        models.load(nanovit, modality="text")


def test_an_architecture_needs_a_file(nanovit: Path) -> None:
    with pytest.raises(ModelError, match=r"is no file; expected \.safetensors or \.pth"):
        models.load(nanovit, arch="deit_tiny_patch16_224")
