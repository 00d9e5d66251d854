"""The CUDA kernels against the same references, in every dtype, with what the CPU kernels promise too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from rule import TAILS, K

from coldpress import _library, ops
from coldpress.ops.bias_gelu import bias_gelu_reference
from coldpress.ops.layer_norm import add_layer_norm_reference, layer_norm_reference
from coldpress.ops.patchify import patchify_reference
from coldpress.ops.pool import pool_reference

pytestmark = pytest.mark.cuda

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, device="cuda").to(dtype)


def bounds(*lengths: int) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int().cuda()


def widen(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def assert_within_k(ours: torch.Tensor, reference: Callable[..., torch.Tensor], *args: Any) -> None:
    """Check `ours` against float64: at most K times torch's error in the same dtype, plus a rounding of the result."""
    exact, framework = reference(*map(widen, args)), reference(*args)
    assert ours.shape == exact.shape
    floor = torch.finfo(ours.dtype).eps * exact.abs().max()
    assert (ours - exact).abs().max() <= K * (framework - exact).abs().max() + floor


def test_every_kernel_but_the_products_is_compiled() -> None:
    assert _library.compiled()["_ops_cuda"] == "loaded"
    names = ("layer_norm", "add_layer_norm", "bias_gelu", "pool", "patchify")
    missing = [n for n in names if not torch._C._dispatch_has_kernel_for_dispatch_key(f"coldpress::{n}", "CUDA")]
    assert missing == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [*TAILS, 384, 768, 5000])
def test_layer_norm(D: int, dtype: torch.dtype) -> None:
    x, residual = randn(67, D, dtype=dtype) * 3 + 1, randn(67, D, dtype=dtype)
    weight, bias = randn(D, dtype=dtype), randn(D, dtype=dtype)
    assert_within_k(ops.layer_norm(x, weight, bias, 1e-5), layer_norm_reference, x, weight, bias, 1e-5)
    normed, summed = ops.add_layer_norm(x, residual, weight, bias, 1e-5)
    assert torch.equal(summed, x + residual)
    assert torch.equal(normed, ops.layer_norm(summed, weight, bias, 1e-5))
    assert_within_k(normed, lambda *args: add_layer_norm_reference(*args)[0], x, residual, weight, bias, 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tanh", [False, True])
@pytest.mark.parametrize("D", [*TAILS, 3072])
def test_bias_gelu(D: int, dtype: torch.dtype, *, tanh: bool) -> None:
    x, bias = randn(35, D, dtype=dtype) * 3, randn(D, dtype=dtype)
    assert_within_k(ops.bias_gelu(x, bias, tanh=tanh), bias_gelu_reference, x, bias, tanh)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [*TAILS, 768])
def test_pool(D: int, dtype: torch.dtype, pooling: ops.Pooling, *, normalize: bool) -> None:
    tokens, ends = randn(330, D, dtype=dtype), bounds(1, 9, 20, 300)
    ours = ops.pool(tokens, ends, pooling, normalize=normalize, dtype=dtype)
    assert_within_k(ours, lambda t: pool_reference(t, ends, pooling, normalize, t.dtype), tokens)


def test_the_cast_of_pool_rounds_the_float32_vector() -> None:
    tokens, ends = randn(30, 50), bounds(10, 20)
    full = ops.pool(tokens, ends, "mean", normalize=True)
    for dtype in DTYPES:
        assert torch.equal(ops.pool(tokens, ends, "mean", normalize=True, dtype=dtype), full.to(dtype))


def test_an_empty_sequence_pools_to_nan() -> None:
    assert ops.pool(randn(6, 8), bounds(3, 0, 3), "cls").isnan().all(dim=1).tolist() == [False, True, False]


@pytest.mark.parametrize("patch", [1, 3, 8, 14, 16, 32])
def test_patchify_equals_the_cpu_kernel(patch: int) -> None:
    images = torch.randint(0, 256, (3, 2 * patch, 3 * patch, 3), dtype=torch.uint8)
    scale, shift = torch.tensor([0.017, 0.0175, 0.0174]), torch.tensor([-2.1, -2.0, -1.8])
    ours = ops.patchify(images.cuda(), patch, scale.cuda(), shift.cuda())
    assert_within_k(ours, lambda s, t: patchify_reference(images.cuda(), patch, s, t), scale.cuda(), shift.cuda())
    assert torch.equal(ours.cpu(), ops.patchify(images, patch, scale, shift))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [33, 768])
def test_an_item_depends_on_itself_alone(D: int, dtype: torch.dtype) -> None:
    x, weight, bias = randn(200, D, dtype=dtype), randn(D, dtype=dtype), randn(D, dtype=dtype)
    normed, activated = ops.layer_norm(x, weight, bias, 1e-5), ops.bias_gelu(x, bias)
    pooled = ops.pool(x, bounds(7, 1, 192), "mean", normalize=True)
    for row in (0, 3, 199):
        # With D = 33 a row of its own is aligned to 16 bytes and a row of the batch is not.
        alone = x[row : row + 1].clone()
        assert torch.equal(ops.layer_norm(alone, weight, bias, 1e-5)[0], normed[row])
        assert torch.equal(ops.bias_gelu(alone, bias)[0], activated[row])
    assert torch.equal(ops.pool(x[8:].clone(), bounds(192), "mean", normalize=True)[0], pooled[2])


def test_unaligned_rows_give_the_same_bits() -> None:
    weight, bias = randn(768), randn(768)
    x = randn(4 * 768 + 1)[1:].view(4, 768)
    assert x.data_ptr() % 16
    assert torch.equal(ops.layer_norm(x, weight, bias, 1e-5), ops.layer_norm(x.clone(), weight, bias, 1e-5))


def test_the_current_stream_is_used() -> None:
    x, bias, stream = randn(4096, 4096), randn(4096), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        y = x
        for _ in range(20):  # a kernel on another stream would read y before it is written
            y = ops.bias_gelu(y * 1.5, bias)
    stream.synchronize()
    expected = x
    for _ in range(20):
        expected = ops.bias_gelu(expected * 1.5, bias)
    assert torch.equal(y, expected)


def test_empty_nan_and_what_does_not_fit() -> None:
    x, weight, bias = randn(6, 20), randn(20), randn(20)
    assert ops.layer_norm(x[:0], weight, bias, 1e-5).shape == (0, 20)
    assert ops.pool(x[:0], bounds(), "mean").shape == (0, 20)
    x[2, 7] = float("nan")
    assert ops.layer_norm(x, weight, bias, 1e-5).isnan().all(dim=1).tolist() == [i == 2 for i in range(6)]
    assert ops.pool(x, bounds(3, 3), "mean", normalize=True).isnan().all(dim=1).tolist() == [True, False]
    with pytest.raises(RuntimeError, match=r"layer_norm: x must be contiguous"):
        ops.layer_norm(randn(20, 20).t(), weight, bias, 1e-5)
    with pytest.raises(RuntimeError, match=r"layer_norm: weight must have the dtype and the CUDA device"):
        ops.layer_norm(x, weight.half(), bias, 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype: torch.dtype) -> None:
    x, row = randn(6, 20, dtype=dtype), randn(20, dtype=dtype)
    torch.library.opcheck(torch.ops.coldpress.layer_norm.default, (x, row, row, 1e-5))
    torch.library.opcheck(torch.ops.coldpress.add_layer_norm.default, (x, x, row, row, 1e-5))
    torch.library.opcheck(torch.ops.coldpress.bias_gelu.default, (x, row, True))
    torch.library.opcheck(torch.ops.coldpress.pool.default, (x, bounds(2, 4), "mean", True, dtype))
