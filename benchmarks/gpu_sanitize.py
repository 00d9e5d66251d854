"""Calls every CUDA kernel of ours once or twice on sizes with tails, for compute-sanitizer to watch.

compute-sanitizer --tool memcheck --error-exitcode 9 python benchmarks/gpu_sanitize.py
"""

from __future__ import annotations

import torch

from coldpress import ops

assert torch.cuda.is_available(), "this needs a GPU"


def randn(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(*shape, device="cuda").to(dtype)


def bounds(*lengths: int) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int().cuda()


def floats(dtype: torch.dtype) -> None:
    for D in (33, 384, 2048):
        x, residual, row = randn(67, D, dtype=dtype), randn(67, D, dtype=dtype), randn(D, dtype=dtype)
        ops.layer_norm(x, row, row, 1e-5)
        ops.add_layer_norm(x, residual, row, row, 1e-5)
        ops.bias_activation_(x.clone(), row, "gelu")
        ops.bias_activation_(x.clone(), row, "relu", residual)
        ops.pool(x, bounds(1, 60, 6), "mean", normalize=True)
    qkv, angles = randn(33, 9, 24, dtype=dtype), randn(33, 12, dtype=torch.float32)
    ops.rope_(qkv[:, :6], angles.cos(), angles.sin())
    for patch in (14, 16):
        images = torch.randint(0, 256, (3, 2 * patch, 3 * patch, 3), dtype=torch.uint8, device="cuda")
        ops.patchify(images, patch, randn(3, dtype=dtype), randn(3, dtype=dtype))


def halves(dtype: torch.dtype) -> None:
    for D in (384, 1032, 2048):
        x, residual, row = randn(67, D, dtype=dtype), randn(67, D, dtype=dtype), randn(D, dtype=dtype)
        ops.residual_norm(x, residual, (row, row, 1e-5), row)
        ops.norm_quantized(x, (row, row, 1e-5), residual)
        ops.quantize_rows(x, row, "gelu")


def resize() -> None:
    try:
        from coldpress import _image
    except ImportError:
        return
    transform, sizes, plans = _image.Transform(shortest_edge=28, crop=(24, 24)), [(40, 60), (7, 5), (200, 12)], []
    for height, width in sizes:
        y, x, vertical_first = _image.resize_plan(height, width, transform)
        plans.append(((height, width), ops.Axis(*y), ops.Axis(*x), vertical_first))
    count = sum(height * width * 3 for height, width in sizes)
    pixels = torch.randint(0, 256, (count,), dtype=torch.uint8, device="cuda")
    ops.resize_images(pixels, ops.plan_batch(plans).to(pixels.device), (24, 24))


if __name__ == "__main__":
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        floats(kind)
    for kind in (torch.float16, torch.bfloat16):
        halves(kind)
    ops.token_places(bounds(5, 1, 300), 306)
    resize()
    torch.cuda.synchronize()
