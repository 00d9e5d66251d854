from __future__ import annotations

import pytest
import torch
from rule import on_every_level
from torch.nn import functional as F

from coldpress import ops
from coldpress.ops.linear import activate
from coldpress.ops.winograd_conv2d import unpack_winograd_weight, winograd_conv2d_reference

Sides = tuple[int, int, int, int]
HALF: Sides = (1, 1, 1, 1)
ACTIVATIONS = ("none", "gelu", "gelu_tanh", "relu", "relu6", "quick_gelu", "silu")


def arguments(
    C: int = 5, N: int = 70, size: tuple[int, int] = (9, 11), B: int = 2
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    weight = torch.randn(N, C, 3, 3) / (C * 9) ** 0.5
    return torch.randn(B, *size, C), ops.pack_winograd_weight(weight), torch.randn(N)


def check(padding: Sides, activation: ops.Activation, *args: torch.Tensor) -> None:
    """Within 2e-5 of the sum in float64, whose own rounding in fp32 is a quarter of that at 512 channels."""
    ours = on_every_level(lambda: ops.winograd_conv2d(*args, padding=padding, activation=activation))
    x, bias = args[0].double(), args[2].double()
    weight = unpack_winograd_weight(args[1], len(bias)).double()
    top, bottom, left, right = padding
    exact = F.conv2d(F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom)), weight, bias).permute(0, 2, 3, 1)
    exact = activate(exact if len(args) < 4 else exact + args[3], activation)
    assert ours.shape == exact.shape
    assert (ours - exact).abs().max() <= 2e-5 * max(1.0, float(exact.abs().max()) / 4)


@pytest.mark.parametrize("size", [1, 3, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 130])
@pytest.mark.parametrize("axis", ["C", "N"])
def test_tails(axis: str, size: int) -> None:
    check(HALF, "none", *arguments(**{axis: size}))


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 6, 7, 8, 9, 14])
@pytest.mark.parametrize("width", [1, 3, 4, 5, 8, 30])
def test_every_part_of_a_tile(height: int, width: int) -> None:
    check(HALF, "relu", *arguments(C=20, N=33, size=(height, width), B=1))


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), HALF, (0, 1, 0, 1), (3, 2, 1, 0), (5, 5, 5, 5)])
def test_padding(padding: Sides) -> None:
    check(padding, "none", *arguments())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_residual_is_added_before_the_activation(activation: ops.Activation) -> None:
    check(HALF, activation, *arguments(), torch.randn(2, 9, 11, 70))


@pytest.mark.parametrize(("C", "size", "B"), [(64, (56, 56), 1), (512, (7, 7), 3), (128, (28, 28), 2)])
def test_layers_of_a_network(C: int, size: tuple[int, int], B: int) -> None:
    check(HALF, "relu", *arguments(C=C, N=C, size=size, B=B))


def test_it_is_the_convolution_it_replaces() -> None:
    weight = torch.randn(40, 24, 3, 3) / 15
    x, bias = torch.randn(2, 13, 10, 24), torch.randn(40)
    plain = ops.conv2d(x, ops.pack_conv_weight(weight), bias, kernel=(3, 3), padding=HALF)
    packed = ops.pack_winograd_weight(weight)
    torch.testing.assert_close(ops.winograd_conv2d(x, packed, bias, padding=HALF), plain, rtol=0, atol=2e-5)
    torch.testing.assert_close(unpack_winograd_weight(packed, 40), weight, rtol=0, atol=1e-6)


def test_an_image_depends_on_itself_alone() -> None:
    """In whatever group of tiles its own are computed: 5 images of 12 tiles are cut at every 18th, and others."""
    x, packed, bias = arguments(C=160, N=200, B=5)
    whole = ops.winograd_conv2d(x, packed, bias, padding=HALF)
    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        assert torch.equal(ops.winograd_conv2d(x, packed, bias, padding=HALF), whole)
        for b in range(5):
            alone = ops.winograd_conv2d(x[b : b + 1].clone(), packed, bias, padding=HALF)
            assert torch.equal(alone[0], whole[b])
    torch.set_num_threads(before)


def test_nan_stays_in_its_image_and_near() -> None:
    x, packed, bias = arguments()
    x[0, 4, 5, 2] = float("nan")
    bad = ops.winograd_conv2d(x, packed, bias, padding=HALF).isnan()
    assert bad[0, 3:6, 4:7].all()
    assert not bad[0, 8:].any()
    assert not bad[0, :, 8:].any()
    assert not bad[1].any()


def test_no_images() -> None:
    x, packed, bias = arguments(B=0)
    assert ops.winograd_conv2d(x, packed, bias).shape == (0, 7, 9, 70)


def test_what_does_not_fit_is_named() -> None:
    x, packed, bias = arguments()
    with pytest.raises(ValueError, match=r"got x \(2, 9, 11, 4\)"):
        ops.winograd_conv2d(x[..., 1:], packed, bias)
    with pytest.raises(ValueError, match=r"got images \(2, 11\)"):
        ops.winograd_conv2d(x[:, :2], packed, bias)
    with pytest.raises(ValueError, match=r"got residual \(2, 9, 11, 70\), expected \(2, 7, 9, 70\)"):
        ops.winograd_conv2d(x, packed, bias, torch.randn(2, 9, 11, 70))
    with pytest.raises(ValueError, match="activation 'swish'"):
        ops.winograd_conv2d(x, packed, bias, activation="swish")  # type: ignore[arg-type]
    with pytest.raises((ValueError, RuntimeError), match="contiguous"):
        ops.winograd_conv2d(x.permute(0, 2, 1, 3), packed, bias)


@pytest.mark.parametrize("residual", [True, False])
def test_opcheck(residual: bool) -> None:
    args = (*arguments(), torch.randn(2, 8, 10, 70) if residual else None, [0, 1, 0, 1], "relu")
    torch.library.opcheck(torch.ops.coldpress.winograd_conv2d.default, args)


def test_without_the_kernel() -> None:
    x, packed, bias = arguments()
    plain = winograd_conv2d_reference(x, packed, bias, None, HALF, "relu")
    torch.testing.assert_close(
        plain, ops.winograd_conv2d(x, packed, bias, padding=HALF, activation="relu"), rtol=0, atol=2e-5
    )
