"""attention_quantized and mlp_quantized: the bits of the ops they are made of, on every level, whatever the company."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from quantized_rule import MODES, Mode, packed
from rule import TAILS, on_every_level

from coldpress import ops


def norm(D: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    return torch.randn(D), torch.randn(D), 1e-5


def bounds(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def around(x: torch.Tensor, f: Any, args: Any, *, norm_first: bool) -> torch.Tensor:
    """``norm(x + f(x))`` or ``x + f(norm(x))`` from separate ops."""
    if norm_first:
        return f(ops.layer_norm(x, *args)) + x
    return ops.add_layer_norm(f(x), x, *args)[0]


def mlp_case(T: int, D: int, hidden: int, mode: Mode = "int8") -> tuple[torch.Tensor, dict[str, Any]]:
    (_, up, up_bias), (_, down, down_bias) = packed(hidden, D, mode), packed(D, hidden, mode)
    weights = {"up": up, "up_bias": up_bias, "down": down, "down_bias": down_bias}
    return torch.randn(T, D), weights | {"activation": "gelu", "norm": norm(D), "norm_first": False}


def attention_case(
    lengths: list[int], D: int, heads: int, mode: Mode = "int8"
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    (_, qkv, qkv_bias), (_, out, out_bias) = packed(3 * D, D, mode), packed(D, D, mode)
    weights = {"qkv": qkv, "qkv_bias": qkv_bias, "out": out, "out_bias": out_bias}
    more = {"heads": heads, "scale": (D // heads) ** -0.5, "norm": norm(D), "norm_first": False}
    return torch.randn(sum(lengths), D), bounds(lengths), weights | more


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("size", TAILS)
@pytest.mark.parametrize("axis", ["T", "D", "hidden"])
def test_mlp_is_its_parts(size: int, axis: str, norm_first: bool, mode: Mode) -> None:
    x, args = mlp_case(**({"T": 13, "D": 24, "hidden": 70} | {axis: size}), mode=mode)
    args["norm_first"] = norm_first

    def parts(inputs: torch.Tensor) -> torch.Tensor:
        hidden = ops.linear_quantized(inputs, args["up"], args["up_bias"], args["activation"])
        return ops.linear_quantized(hidden, args["down"], args["down_bias"])

    assert torch.equal(
        on_every_level(lambda: ops.mlp_quantized(x, **args)), around(x, parts, args["norm"], norm_first=norm_first)
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize(("D", "heads"), [(64, 1), (64, 2), (64, 8), (128, 2), (384, 12)])
def test_attention_is_its_parts(D: int, heads: int, norm_first: bool, mode: Mode) -> None:
    x, cu_seqlens, args = attention_case([5, 1, 53, 0, 16, 130, 64], D, heads, mode)
    args["norm_first"] = norm_first

    def parts(inputs: torch.Tensor) -> torch.Tensor:
        q, k, v = ops.linear_quantized(inputs, args["qkv"], args["qkv_bias"]).view(len(x), 3, heads, -1).unbind(1)
        mixed = ops.varlen_attention(q, k, v, cu_seqlens, scale=args["scale"], words=True)
        return ops.linear_quantized(mixed, args["out"], args["out_bias"])

    ours = on_every_level(lambda: ops.attention_quantized(x, cu_seqlens, **args))
    assert torch.equal(ours, around(x, parts, args["norm"], norm_first=norm_first))


@pytest.mark.parametrize("mode", MODES)
def test_attention_with_biases_of_keys_is_its_parts(mode: Mode) -> None:
    x, cu_seqlens, args = attention_case([5, 1, 53, 0, 130, 64], 128, 2, mode)
    bias = torch.rand(len(x)) * 3

    def parts(inputs: torch.Tensor) -> torch.Tensor:
        q, k, v = ops.linear_quantized(inputs, args["qkv"], args["qkv_bias"]).view(len(x), 3, 2, -1).unbind(1)
        mixed = ops.varlen_attention(q, k, v, cu_seqlens, scale=args["scale"], words=True, key_bias=bias)
        return ops.linear_quantized(mixed, args["out"], args["out_bias"])

    ours = on_every_level(lambda: ops.attention_quantized(x, cu_seqlens, **args, key_bias=bias))
    assert torch.equal(ours, around(x, parts, args["norm"], norm_first=False))
    with pytest.raises(ValueError, match=r"key_bias \(3,\), expected \(253,\)"):
        ops.attention_quantized(x, cu_seqlens, **args, key_bias=bias[:3])


@pytest.mark.parametrize("length", TAILS)
def test_attention_over_lengths(length: int) -> None:
    x, cu_seqlens, args = attention_case([length, 3], 64, 4)
    ours = on_every_level(lambda: ops.attention_quantized(x, cu_seqlens, **args))
    alone = ops.attention_quantized(x[:length].clone(), bounds([length]), **args)
    assert torch.equal(ours[:length], alone)


# Bytes come with a GELU to 1.6e-4 of their own (core/math.h), which the reference does not follow.
@pytest.mark.parametrize(("mode", "step", "mean"), [("int8", 0.05, 1e-3), ("int16", 2e-3, 5e-5)])
def test_references_agree_up_to_a_step_of_quantisation(mode: Mode, step: float, mean: float) -> None:
    x, cu_seqlens, args = attention_case([40, 1, 90], 128, 4, mode)
    y, more = mlp_case(131, 128, 300, mode)
    ours = ops.attention_quantized(x, cu_seqlens, **args), ops.mlp_quantized(y, **more)
    with ops.ReferenceMode():
        reference = ops.attention_quantized(x, cu_seqlens, **args), ops.mlp_quantized(y, **more)
    for a, b in zip(ours, reference, strict=True):
        assert (a - b).abs().max() < step
        assert (a - b).abs().mean() < mean


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_sequence_depends_on_itself_alone(threads: int) -> None:
    lengths = [7, 100, 1, 30, 60, 3, 200, 11]
    x, cu_seqlens, args = attention_case(lengths, 64, 2)
    y, more = mlp_case(len(x), 64, 100)
    whole, rows = ops.attention_quantized(x, cu_seqlens, **args), ops.mlp_quantized(y, **more)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(ops.attention_quantized(x, cu_seqlens, **args), whole)
        assert torch.equal(ops.mlp_quantized(y, **more), rows)
        for begin, length in zip(cu_seqlens.tolist(), lengths, strict=False):
            own = slice(begin, begin + length)
            assert torch.equal(ops.attention_quantized(x[own].clone(), bounds([length]), **args), whole[own])
            assert torch.equal(ops.mlp_quantized(y[own].clone(), **more), rows[own])
    finally:
        torch.set_num_threads(before)


def test_nan_stays_where_it_belongs() -> None:
    x, cu_seqlens, args = attention_case([4, 5], 64, 2)
    x[6, 1] = float("nan")
    assert (
        on_every_level(lambda: ops.attention_quantized(x, cu_seqlens, **args)).isnan().any(1).tolist()
        == [False] * 4 + [True] * 5
    )
    y, more = mlp_case(9, 64, 100)
    y[6, 1] = float("nan")
    assert ops.mlp_quantized(y, **more).isnan().any(1).nonzero().tolist() == [[6]]


def test_nothing() -> None:
    x, cu_seqlens, args = attention_case([], 64, 2)
    assert ops.attention_quantized(x, cu_seqlens, **args).shape == (0, 64)
    y, more = mlp_case(0, 64, 100)
    assert ops.mlp_quantized(y, **more).shape == (0, 64)


def test_what_does_not_fit_is_named() -> None:
    x, cu_seqlens, args = attention_case([4, 5], 64, 2)
    with pytest.raises(ValueError, match="and 3 heads; expected"):
        ops.attention_quantized(x, cu_seqlens, **args | {"heads": 3})
    with pytest.raises(ValueError, match=r"cu_seqlens torch\.int64"):
        ops.attention_quantized(x, cu_seqlens.long(), **args)
    with pytest.raises(ValueError, match=r"qkv_bias \(64,\)"):
        ops.attention_quantized(x, cu_seqlens, **args | {"qkv_bias": torch.zeros(64)})
    with pytest.raises(RuntimeError, match="from 0 to the number of tokens, 9"):
        ops.attention_quantized(x, cu_seqlens[:-1].contiguous(), **args)
    with pytest.raises(RuntimeError, match="contiguous"):
        ops.attention_quantized(torch.randn(64, 9).t(), cu_seqlens, **args)
    y, more = mlp_case(9, 64, 100)
    with pytest.raises(ValueError, match=r"down_bias \(63,\)"):
        ops.mlp_quantized(y, **more | {"down_bias": torch.zeros(63)})
    with pytest.raises(ValueError, match="mlp_quantized: down: got x"):
        ops.mlp_quantized(y, **more | {"down": more["up"]})
    with pytest.raises(ValueError, match="activation 'tanh'"):
        ops.mlp_quantized(y, **more | {"activation": "tanh"})
    with pytest.raises(ValueError, match="expected one type"):
        ops.mlp_quantized(y, **more | {"down": packed(64, 100, "int16")[1]})
    with pytest.raises(ValueError, match="expected one type"):
        ops.attention_quantized(x, cu_seqlens, **args | {"out": packed(64, 64, "int16")[1]})


def test_opcheck() -> None:
    x, cu_seqlens, a = attention_case([4, 5], 64, 2)
    args = (*a["qkv"], a["qkv_bias"], *a["out"], a["out_bias"], *a["norm"], False)
    torch.library.opcheck(torch.ops.coldpress.attention_quantized.default, (x, cu_seqlens, 2, 0.2, *args))
    y, m = mlp_case(9, 64, 100)
    weights = (*m["up"], m["up_bias"], *m["down"], m["down_bias"])
    torch.library.opcheck(torch.ops.coldpress.mlp_quantized.default, (y, *weights, "gelu", *m["norm"], True))
