"""Real pre-trained networks that are no family of ours, as modules, and the MobileNets of the first version: each has
the accuracy that was published with its weights."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_timm import cifar_test
from torch import nn
from torch.nn import functional as F

import coldpress
from coldpress.types import ImageSpec

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = ImageSpec(("exact", 32, 32), None, "bilinear", 1 / 255, *IMAGENET)


class BasicBlock(nn.Module):
    """Two convolutions; where the maps shrink, the shortcut takes every other pixel and pads channels with zeros."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shrinks, self.more = inputs != outputs, (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2 if self.shrinks else 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more)) if self.shrinks else x
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + shortcut)


class CifarResNet(nn.Module):
    """He et al. (2015), section 4.2, without its classifier."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        for number, (inputs, outputs) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
            blocks = [BasicBlock(inputs if i == 0 else outputs, outputs) for i in range((depth - 2) // 6)]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))  # type: ignore[no-any-return,operator]


class CompactTransformer(nn.Module):
    """Hassani et al. (2021): patches from a convolution, four blocks, a pooling that learns its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = nn.ModuleDict({"tokenizer_layers": nn.ModuleList([nn.Conv2d(3, 128, 3, 1, 1, bias=False)])})
        self.positional_embeddings = nn.Parameter(torch.empty(1, 256, 128))
        self.blocks = nn.ModuleList(self._block() for _ in range(4))
        self.norm = nn.LayerNorm(128)
        self.pool = nn.ModuleDict({"attention_pool": nn.Linear(128, 1)})

    @staticmethod
    def _block() -> nn.ModuleDict:
        mlp = nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Identity(), nn.Linear(256, 128))
        projections = nn.ModuleDict({"in_proj": nn.Linear(128, 384), "out_proj": nn.Linear(128, 128)})
        norms = {"attention_pre_norm": nn.LayerNorm(128), "mlp_pre_norm": nn.LayerNorm(128)}
        return nn.ModuleDict({"attention": projections, "mlp": mlp, **norms})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = F.max_pool2d(F.relu(self.tokenizer["tokenizer_layers"][0](x)), 3, 2, 1)  # type: ignore[index]
        x = maps.flatten(2).transpose(1, 2) + self.positional_embeddings
        for block in self.blocks:
            attention = block["attention"]  # type: ignore[index]
            q, k, v = attention["in_proj"](block["attention_pre_norm"](x)).view(*x.shape[:2], 3, 4, 32).unbind(2)  # type: ignore[index]
            mixed = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))
            x = x + attention["out_proj"](mixed.transpose(1, 2).flatten(2))
            x = x + block["mlp"](block["mlp_pre_norm"](x))  # type: ignore[index]
        x = self.norm(x)
        return (self.pool["attention_pool"](x).softmax(1) * x).sum(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "network", "head", "accuracy"),
    [
        ("cifar10_resnet20", CifarResNet(20), "linear", 0.804),
        ("cifar10_resnet56", CifarResNet(56), "linear", 0.825),
        ("cifar10_cct4_3x1", CompactTransformer(), "fc", 0.78),
    ],
)
def test_a_module_has_its_published_accuracy(
    shared: Path, name: str, network: nn.Module, head: str, accuracy: float
) -> None:
    tensors = load_file(shared / "models" / name / "model.safetensors")
    network.load_state_dict({key: value for key, value in tensors.items() if not key.startswith(f"{head}.")})
    images, labels = cifar_test(shared)
    if name.endswith("3x1"):  # its accuracy was taken on the first half
        images, labels = images[:500], labels[:500]
    extractor = coldpress.Extractor(coldpress.from_module(network, CIFAR, name=name), device="cpu")
    vectors = torch.from_numpy(extractor.embed(images))
    classes = F.linear(vectors, tensors[f"{head}.weight"], tensors[f"{head}.bias"]).argmax(1)
    assert (classes == torch.tensor(labels)).float().mean().item() == pytest.approx(accuracy, abs=0.002)


@pytest.mark.parametrize(("name", "right", "published"), [("0.75_192", 246, 0.797), ("0.25_128", 147, 0.476)])
def test_mobilenet_v1_has_its_published_accuracy(shared: Path, name: str, right: int, published: float) -> None:
    """As many photos of 311 as with transformers and its PIL processor; what was published is one or two more."""
    directory = shared / "models" / f"mobilenet_v1_{name}_imagenet"
    with (shared / "imagenet_sample" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    photos = [shared / "imagenet_sample" / "images" / row["file"] for row in rows]
    tensors = load_file(directory / "model.safetensors")
    vectors = torch.from_numpy(coldpress.Extractor(directory, device="cpu", precision="fp32").embed(photos))
    classes = F.linear(vectors, tensors["classifier.weight"], tensors["classifier.bias"]).argmax(1) - 1
    labels = torch.tensor([int(row["class_index"]) for row in rows])
    assert int((classes == labels).sum()) == right
    assert right / len(labels) == pytest.approx(published, abs=0.01)
