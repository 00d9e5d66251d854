"""The CUDA kernels against the same references, in every dtype, with what the CPU kernels promise too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from rule import TAILS, K

from coldpress import _library, ops
from coldpress.ops.bias_activation import bias_activation_reference
from coldpress.ops.layer_norm import add_layer_norm_reference, layer_norm_reference
from coldpress.ops.linear_float8 import linear_float8_reference, quantize_rows_reference
from coldpress.ops.merge_tokens import merge_tokens_reference
from coldpress.ops.patchify import patchify_reference
from coldpress.ops.pool import pool_reference
from coldpress.ops.residual_norm import norm_quantized_reference, residual_norm_reference
from coldpress.ops.rope import rope_reference
from coldpress.ops.token_places import token_places_reference
from coldpress.ops.varlen_attention import varlen_attention_reference

pytestmark = pytest.mark.cuda

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
HALVES = DTYPES[1:]


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
    names = ops.op_names("CUDA")
    assert len(names) == 11
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


def bias_activation(x: torch.Tensor, *args: Any) -> torch.Tensor:
    return ops.bias_activation_(x.clone(), *args)


def activated(x: torch.Tensor, *args: Any) -> torch.Tensor:
    changed = x.clone()
    bias_activation_reference(changed, *args)
    return changed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", get_args(ops.Activation))
@pytest.mark.parametrize("D", [*TAILS, 264, 3072])
def test_bias_activation(D: int, activation: ops.Activation, dtype: torch.dtype) -> None:
    x, bias, residual = randn(150, D, dtype=dtype) * 3, randn(D, dtype=dtype), randn(150, D, dtype=dtype)
    x[7, D // 2] = float("nan")
    for added in (None, residual):
        ours = bias_activation(x, bias, activation, added)
        assert ours.isnan().nonzero().tolist() == [[7, D // 2]]
        assert_within_k(ours.nan_to_num(0), lambda *args: activated(*args).nan_to_num(0), x, bias, activation, added)


@pytest.mark.parametrize("rows", [1, 2, 5, 31, 32, 33, 1000])
@pytest.mark.parametrize("D", [8, 24, 64, 768])
def test_every_row_of_a_map_is_changed_once(D: int, rows: int) -> None:
    x, bias, residual = (randn(*shape, dtype=torch.bfloat16) for shape in ((rows, 1, 1, D), (D,), (rows, 1, 1, D)))
    found = bias_activation(x, bias, "relu", residual)
    assert torch.equal(found, (x.float() + bias + residual).relu().to(x.dtype))


@pytest.mark.parametrize("activation", get_args(ops.Activation))
def test_bias_activation_of_extreme_values_saturates(activation: ops.Activation) -> None:
    x, bias = torch.tensor([[1e4, -1e4, 1e30, -1e30, 0.0]], device="cuda"), torch.zeros(5, device="cuda")
    assert torch.allclose(bias_activation(x, bias, activation), activated(x, bias, activation, None), atol=1e-8)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [*TAILS, 768, 1032])
def test_pool(D: int, dtype: torch.dtype, pooling: ops.Pooling, *, normalize: bool) -> None:
    tokens, ends = randn(330, D, dtype=dtype), bounds(1, 9, 20, 300)
    ours = ops.pool(tokens, ends, pooling, normalize=normalize, dtype=dtype)
    assert_within_k(ours, lambda t: pool_reference(t, ends, pooling, normalize, t.dtype), tokens)


@pytest.mark.parametrize("D", [1, 48, 49, 320])
def test_pool_rounding_does_not_grow_with_the_sequence(D: int) -> None:
    tokens, ends = torch.rand(5290, D, device="cuda") + 0.5, bounds(3, 31, 64, 192, 5000)
    exact = pool_reference(tokens.double(), ends, "mean", False, torch.float64)
    assert (ops.pool(tokens, ends, "mean") - exact).norm() / exact.norm() < 3e-7


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


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("patch", [8, 14, 16])
def test_patchify_in_sixteen_bits_rounds_once(patch: int, dtype: torch.dtype) -> None:
    images = torch.randint(0, 256, (3, 2 * patch, 3 * patch, 3), dtype=torch.uint8, device="cuda")
    one, middle = torch.ones(3, dtype=dtype, device="cuda"), torch.full((3,), -128.0, dtype=dtype, device="cuda")
    exact = patchify_reference(images, patch, one.float(), middle.float())
    assert torch.equal(ops.patchify(images, patch, one, middle).float(), exact)
    scale, shift = randn(3, dtype=dtype), randn(3, dtype=dtype)
    assert torch.equal(ops.patchify(images, patch, scale, shift), patchify_reference(images, patch, scale, shift))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("D", [8, 64, 384, 768, 1024, 1280, 2048])
def test_residual_norm(D: int, dtype: torch.dtype) -> None:
    x, residual = randn(67, D, dtype=dtype) * 3 + 1, randn(67, D, dtype=dtype)
    weight, bias, shift = randn(3, D, dtype=dtype)
    normed, shifted = ops.residual_norm(x, residual, (weight, bias, 1e-5), shift)
    assert torch.equal(shifted, (x.float() + residual + shift).to(dtype))
    assert_within_k(normed, lambda *args: residual_norm_reference(*args, 1e-5, None)[0], x, residual, weight, bias)
    alone, nothing = ops.residual_norm(x[3:4].clone(), residual[3:4].clone(), (weight, bias, 1e-5))
    assert torch.equal(alone[0], normed[3])
    assert nothing.shape == (0, D)
    with pytest.raises(RuntimeError, match="expected rows of whole, aligned packs"):
        ops.residual_norm(x[:, :7].contiguous(), residual[:, :7].contiguous(), (weight[:7], bias[:7], 1e-5))


def assert_codes(found: ops.Codes, expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Equal but for values that lie between two codes: those differ by one code at most, and are few."""
    codes, steps = expected
    assert torch.allclose(found.steps, steps, rtol=1e-5)
    ours, theirs = found.values.float(), codes.float()
    assert (ours != theirs).float().mean() < 0.01
    assert ((ours - theirs).abs() <= theirs.abs() / 8 + 2.0**-9).all()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("D", [8, 384, 768, 2048])
def test_norm_quantized(D: int, dtype: torch.dtype) -> None:
    x, residual, (weight, bias) = randn(67, D, dtype=dtype) * 3 + 1, randn(67, D, dtype=dtype), randn(2, D).to(dtype)
    codes, summed = ops.norm_quantized(x, (weight, bias, 1e-5), residual)
    assert_codes(codes, norm_quantized_reference(x, residual, weight, bias, 1e-5)[:2])
    assert torch.equal(summed, (x.float() + residual).to(dtype))
    codes, summed = ops.norm_quantized(x, (weight, bias, 1e-5))
    assert_codes(codes, norm_quantized_reference(x, None, weight, bias, 1e-5)[:2])
    assert summed.shape == (0, D)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("activation", get_args(ops.Activation))
@pytest.mark.parametrize("D", [16, 768, 3072, 8192])
def test_quantize_rows(D: int, activation: ops.Activation, dtype: torch.dtype) -> None:
    x, bias = randn(35, D, dtype=dtype) * 3, randn(D, dtype=dtype)
    x[4], x[7, 3] = 0, float("nan")
    found = ops.quantize_rows(x, bias, activation)
    codes, steps = quantize_rows_reference(x, bias, activation)
    assert found.steps.isnan().tolist() == [i == 7 for i in range(35)]
    good = ~steps.isnan()
    assert_codes(ops.Codes(found.values[good], found.steps[good]), (codes[good], steps[good]))
    assert torch.equal(ops.quantize_rows(x[9:10].clone(), bias, activation).values.float()[0], found.values.float()[9])
    zero = ops.quantize_rows(torch.zeros_like(x))
    assert (zero.values.float() == 0).all()
    assert (zero.steps == 0).all()


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 9), reason="no products in float8"
)
def test_products_in_float8() -> None:
    x, weight = randn(300, 256, dtype=torch.bfloat16), randn(128, 256, dtype=torch.bfloat16)
    codes, packed, bias = ops.quantize_rows(x), ops.quantize_rows(weight), randn(128, dtype=torch.bfloat16)
    for added in (bias, None):
        found = ops.linear_float8(codes, packed, added).float()
        exact = linear_float8_reference(*codes, *packed, added, torch.float32)
        assert (found - exact).norm() / exact.norm() < 5e-3
    exact = x.double() @ weight.double().T
    assert (ops.linear_float8(codes, packed, None) - exact).norm() / exact.norm() < 0.06


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [2, 6, 16, 64, 80])
def test_rope_turns_views_in_place(D: int, dtype: torch.dtype) -> None:
    qkv, angles = randn(33, 9, D, dtype=dtype), randn(33, D // 2)
    expected, values = qkv.clone(), qkv[:, 6:].clone()
    rope_reference(expected[:, :6], angles.cos(), angles.sin())
    ops.rope_(qkv[:, :6], angles.cos(), angles.sin())
    assert torch.equal(qkv[:, 6:], values)
    tolerance = 4 * torch.finfo(dtype).eps
    assert torch.allclose(qkv[:, :6], expected[:, :6], atol=tolerance * float(expected.abs().max()), rtol=0)
    same = qkv.clone()
    ops.rope_(same[:, :6], torch.ones_like(angles), torch.zeros_like(angles))
    assert torch.equal(same, qkv)


@pytest.mark.parametrize("lengths", [(1,), (5, 1, 300, 2), (7,) * 500, ()])
def test_token_places(lengths: tuple[int, ...]) -> None:
    ends = bounds(*lengths)
    for found, expected in zip(
        ops.token_places(ends, sum(lengths)), token_places_reference(ends, sum(lengths)), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [32, 64, 80])
@pytest.mark.parametrize("lengths", [(5, 1, 300, 20), (197, 197, 197)])
@pytest.mark.parametrize("extra", ["nothing", "bias", "window", "causal", "keys", "one query"])
def test_attention(extra: str, lengths: tuple[int, ...], D: int, dtype: torch.dtype) -> None:
    q, k, v = randn(sum(lengths), 3, 4, D, dtype=dtype).unbind(1)
    ends, asked = bounds(*lengths), None
    if extra == "one query":
        q, asked = q[ends[:-1].long()].contiguous(), torch.arange(len(ends), dtype=torch.int32, device="cuda")
    window = {"window": (3, 2), "causal": (-1, 0)}.get(extra, (-1, -1))
    bias = randn(4, 2 * max(lengths) - 1) if extra == "bias" else None
    keys = randn(sum(lengths)) if extra == "keys" else None
    wide = [t.double().cpu() for t in (q, k, v)]
    host = [None if t is None else t.double().cpu() for t in (bias, keys)]
    exact = varlen_attention_reference(
        *wide, ends.cpu(), (ends if asked is None else asked).cpu(), D**-0.5, False, host[0], *window, host[1]
    )
    with ops.known_lengths(max(lengths), equal=len(set(lengths)) == 1):
        found = ops.varlen_attention(
            q, k, v, ends, scale=D**-0.5, cu_seqlens_q=asked, window=window, bias=bias, key_bias=keys
        )
    error = (found.double().cpu() - exact).norm() / exact.norm()
    assert error < {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}[dtype]


def test_attention_of_a_sequence_does_not_depend_on_the_longest() -> None:
    q, k, v = randn(326, 3, 4, 64, dtype=torch.bfloat16).unbind(1)
    ends = bounds(5, 1, 300, 20)
    results = []
    for longest in (300, 512, 8192):
        with ops.known_lengths(longest):
            results.append(ops.varlen_attention(q, k, v, ends, scale=0.125))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("lengths", "prefix", "merged"), [((197,) * 8, 1, 13), ((42,) * 3, 0, 21), ((30, 9, 64), 1, 4)]
)
def test_merge_tokens(lengths: tuple[int, ...], prefix: int, merged: int, dtype: torch.dtype) -> None:
    x, keys = randn(sum(lengths), 40, dtype=dtype), randn(sum(lengths), 64)
    sizes = torch.randint(1, 5, (sum(lengths),), dtype=torch.int32, device="cuda")
    args, equal = (x, keys, sizes, bounds(*lengths)), len(set(lengths)) == 1
    results = []
    with ops.known_lengths(max(lengths), equal=equal):
        for mode in ("default", "error" if equal else "default"):  # where images are equally long, nothing waits
            torch.cuda.set_sync_debug_mode(mode)
            try:
                results.append(ops.merge_tokens(*args, prefix=prefix, merged=merged))
            finally:
                torch.cuda.set_sync_debug_mode("default")
    exact, left = merge_tokens_reference(x.double().cpu(), *(t.cpu() for t in args[1:]), prefix, merged)
    for rows, counts in results:
        assert torch.equal(counts.cpu(), left)
        assert torch.equal(rows, results[0][0])
        torch.testing.assert_close(rows.double().cpu(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("options", [{"shortest_edge": 36, "crop": (32, 32)}, {"exact": (32, 32)}, {"crop": (32, 32)}])
def test_resized_bytes_are_those_of_the_cpu_path(options: dict[str, Any], kind: Any) -> None:
    image_part = pytest.importorskip("coldpress._image")
    transform, draw = image_part.Transform(**options, filter=kind), np.random.default_rng(0)
    images = [draw.integers(0, 256, (40 + i * 7 % 90, 200 - i * 11 % 180, 3), dtype=np.uint8) for i in range(20)]
    plans = []
    for image in images:
        y, x, vertical_first = image_part.resize_plan(*image.shape[:2], transform)
        plans.append((image.shape[:2], ops.Axis(*y), ops.Axis(*x), vertical_first))
    pixels = torch.from_numpy(np.concatenate([image.ravel() for image in images])).cuda()
    found = ops.resize_images(pixels, ops.plan_batch(plans).to(pixels.device), (32, 32)).cpu().numpy()
    for image, ours in zip(images, found, strict=True):
        assert np.array_equal(ours, image_part.resize(image, transform)), image.shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [33, 768])
def test_an_item_depends_on_itself_alone(D: int, dtype: torch.dtype) -> None:
    x, weight, bias = randn(200, D, dtype=dtype), randn(D, dtype=dtype), randn(D, dtype=dtype)
    normed, changed = ops.layer_norm(x, weight, bias, 1e-5), bias_activation(x, bias, "gelu", x)
    pooled = ops.pool(x, bounds(7, 1, 192), "mean", normalize=True)
    for row in (0, 3, 199):
        # With D = 33 a row of its own is aligned to 16 bytes and a row of the batch is not.
        alone = x[row : row + 1].clone()
        assert torch.equal(ops.layer_norm(alone, weight, bias, 1e-5)[0], normed[row])
        assert torch.equal(bias_activation(alone, bias, "gelu", alone)[0], changed[row])
    assert torch.equal(ops.pool(x[8:].clone(), bounds(192), "mean", normalize=True)[0], pooled[2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_unaligned_rows_give_the_same_bits(dtype: torch.dtype) -> None:
    weight, bias = randn(2, 768, dtype=dtype)
    x = randn(40 * 768 + 1, dtype=dtype)[1:].view(40, 768)
    assert x.data_ptr() % 16
    assert torch.equal(ops.layer_norm(x, weight, bias, 1e-5), ops.layer_norm(x.clone(), weight, bias, 1e-5))
    changed = ops.bias_activation_(x.clone(), bias, "silu", x)
    assert torch.equal(changed, bias_activation(x, bias, "silu", x.clone()))
    place = randn(40 * 768 + 1, dtype=dtype)[1:].view(40, 768).copy_(x)
    assert torch.equal(ops.bias_activation_(place, bias, "silu", x), changed)
    ends = bounds(3, 37)
    assert torch.equal(ops.pool(x, ends, "mean"), ops.pool(x.clone(), ends, "mean"))


def test_the_current_stream_is_used() -> None:
    x, bias, stream = randn(4096, 4096), randn(4096), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        y = x
        for _ in range(20):  # a kernel on another stream would read y before it is written
            y = ops.bias_activation_(y * 1.5, bias, "gelu")
    stream.synchronize()
    expected = x
    for _ in range(20):
        expected = ops.bias_activation_(expected * 1.5, bias, "gelu")
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


@pytest.mark.parametrize("dtype", HALVES)
def test_opcheck_of_what_has_sixteen_bits(dtype: torch.dtype) -> None:
    x, row = randn(6, 24, dtype=dtype), randn(24, dtype=dtype)
    torch.library.opcheck(torch.ops.coldpress.residual_norm.default, (x, x, row, row, 1e-5, row))
    torch.library.opcheck(torch.ops.coldpress.residual_norm.default, (x, x, row, row, 1e-5, None))
    torch.library.opcheck(torch.ops.coldpress.token_places.default, (bounds(2, 4), 6))


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype: torch.dtype) -> None:
    x, row = randn(6, 20, dtype=dtype), randn(20, dtype=dtype)
    torch.library.opcheck(torch.ops.coldpress.layer_norm.default, (x, row, row, 1e-5))
    torch.library.opcheck(torch.ops.coldpress.add_layer_norm.default, (x, x, row, row, 1e-5))
    torch.library.opcheck(torch.ops.coldpress.bias_activation_.default, (x.clone(), row, "silu", None))
    torch.library.opcheck(torch.ops.coldpress.bias_activation_.default, (x.clone(), row, "relu", x))
    torch.library.opcheck(torch.ops.coldpress.pool.default, (x, bounds(2, 4), "mean", True, dtype))
