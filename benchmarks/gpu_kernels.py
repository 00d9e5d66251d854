"""How much of the memory bandwidth that a copy reaches does each CUDA kernel reach, and is it faster than torch?

    python benchmarks/gpu_kernels.py [--device cuda] [--smoke]

The bytes are the fewest that can be moved: every input read once, every output written once. Buffers rotate, so that
no input of a repetition is in the cache from the one before.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from gpu_tools import device_name, limits, median_s
from harness import write
from torch.nn import functional as F

from coldpress import ops
from coldpress.ops.linear import activate
from coldpress.ops.linear_float8 import quantize_rows_reference
from coldpress.ops.patchify import patchify_reference
from coldpress.ops.residual_norm import residual_norm_reference
from coldpress.ops.rope import rope_reference

HALF = torch.bfloat16
SETS = 4


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for one in value for t in tensors(one)] if isinstance(value, Sequence) else []


def row(
    name: str,
    device: torch.device,
    make: Callable[[], tuple[Any, ...]],
    ours: Callable[..., Any],
    theirs: Callable[..., Any] | None = None,
    extra: float = 0,
) -> dict[str, Any]:
    """Time a kernel on rotating inputs; `extra` are bytes that its results do not show."""
    sets = [make() for _ in range(SETS)]
    turn = itertools.cycle(sets)
    moved = sum(t.nbytes for t in tensors([sets[0], ours(*sets[0])])) + extra
    seconds = median_s(lambda: ours(*next(turn)), device, 20)
    framework = None if theirs is None else median_s(lambda: theirs(*next(turn)), device, 20)
    return {"kernel": name, "bytes": moved, "us": seconds * 1e6, "torch_us": framework and framework * 1e6}


def rows(device: torch.device, T: int) -> list[dict[str, Any]]:
    D, hidden, side = 768, 3072, 224

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device).to(HALF)

    weight, bias, shift, wide = randn(D), randn(D), randn(D), randn(hidden)
    images = max(T // 197, 1)
    maps, channels = (images // 4 or 1, 56, 56, 256), randn(256)
    one, middle = torch.ones(3, dtype=HALF, device=device), torch.full((3,), -128.0, dtype=HALF, device=device)
    ends = (torch.arange(images + 1, device=device) * 197).int()
    angles = torch.randn(T, 32, device=device)
    cosines, sines = angles.cos(), angles.sin()

    def norm(x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (D,), weight, bias, 1e-6)

    def bytes_of(count: int, height: int, width: int) -> torch.Tensor:
        return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, device=device)

    def turned(x: torch.Tensor) -> None:
        rope_reference(x, cosines, sines)

    return [
        row("layer_norm", device, lambda: (randn(T, D),), lambda x: ops.layer_norm(x, weight, bias, 1e-6), norm),
        row(
            "add_layer_norm", device, lambda: (randn(T, D), randn(T, D)),
            lambda x, r: ops.add_layer_norm(x, r, weight, bias, 1e-6), lambda x, r: norm(x + r),
        ),
        row(
            "residual_norm", device, lambda: (randn(T, D), randn(T, D)),
            lambda x, r: ops.residual_norm(x, r, (weight, bias, 1e-6), shift),
            lambda x, r: residual_norm_reference(x, r, weight, bias, 1e-6, shift),
        ),
        row(
            "norm_quantized", device, lambda: (randn(T, D), randn(T, D)),
            lambda x, r: ops.norm_quantized(x, (weight, bias, 1e-6), r),
        ),
        row(
            "bias, gelu", device, lambda: (randn(T, hidden),), lambda x: ops.bias_activation_(x, wide, "gelu"),
            lambda x: F.gelu(x + wide),
        ),
        row(
            "bias, quick_gelu", device, lambda: (randn(T, hidden),),
            lambda x: ops.bias_activation_(x, wide, "quick_gelu"), lambda x: activate(x + wide, "quick_gelu"),
        ),
        row(
            "bias, residual, relu", device, lambda: (randn(*maps), randn(*maps)),  # of ResNet-50, first stage
            lambda x, r: ops.bias_activation_(x, channels, "relu", r), lambda x, r: F.relu(x + channels + r),
        ),
        row(
            "quantize_rows gelu", device, lambda: (randn(T, hidden),), lambda x: ops.quantize_rows(x, wide, "gelu"),
            lambda x: quantize_rows_reference(x, wide, "gelu"),
        ),
        row(
            "patchify", device, lambda: (bytes_of(images, side, side),), lambda x: ops.patchify(x, 16, one, middle),
            lambda x: patchify_reference(x, 16, one, middle),
        ),
        row(
            "rope", device, lambda: (randn(T, 24, 64),), lambda x: ops.rope_(x, cosines, sines), turned,
            extra=T * 24 * 64 * 2 + 2 * angles.nbytes,
        ),
        row(
            "pool mean", device, lambda: (randn(images * 197, D),),
            lambda x: ops.pool(x, ends, "mean", normalize=True), lambda x: F.normalize(x.view(-1, 197, D).mean(1)),
        ),
        row(
            "token_places", device, lambda: (ends,), lambda e: ops.token_places(e, images * 197),
        ),
        resize(device, images),
    ]  # fmt: skip


def resize(device: torch.device, count: int) -> dict[str, Any]:
    """Photos of 500 x 375 to 224 x 224, bicubic: bound by loads from L1, not by memory."""
    from coldpress import _image

    transform = _image.Transform(shortest_edge=256, crop=(224, 224))
    y, x, vertical_first = _image.resize_plan(375, 500, transform)
    plan = ops.plan_batch([((375, 500), ops.Axis(*y), ops.Axis(*x), vertical_first)] * count).to(device)

    def make() -> tuple[torch.Tensor]:
        return (torch.randint(0, 256, (count * 375 * 500 * 3,), dtype=torch.uint8, device=device),)

    made = row("resize_images", device, make, lambda p: ops.resize_images(p, plan, (224, 224)))
    return made | {"images_per_s": count / made["us"] * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)
    plain = nullcontext() if device.type == "cuda" else ops.ReferenceMode()  # what the kernels of a CPU do not take
    with torch.inference_mode(), plain:
        ceiling = limits(device, smoke=options.smoke)
        made = rows(device, 197 if options.smoke else 128 * 197 * 4)
    print(f"# table: kernels, {device_name(device)}, copy {ceiling['copy_bytes_per_s'] / 1e12:.2f} TB/s")
    for one in made:
        one["share"] = one["bytes"] / (one["us"] / 1e6) / ceiling["copy_bytes_per_s"]
        ratio = f"x{one['torch_us'] / one['us']:.2f} of torch" if one["torch_us"] else ""
        print(f"{one['kernel']:20s} {one['us']:9.1f} us  {one['share']:6.1%} of the copy  {ratio}")
    write(options.json, question=__doc__.splitlines()[0], device=device_name(device), limits=ceiling, rows=made)


if __name__ == "__main__":
    main()
