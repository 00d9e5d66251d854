from __future__ import annotations

import pytest
import torch
from rule import assert_within_k, on_every_level
from torch.nn import functional as F

from coldpress import ops
from coldpress.ops.conv2d import conv2d_reference

Sides = tuple[int, int, int, int]
ACTIVATIONS = ("none", "gelu", "gelu_tanh", "relu", "relu6", "quick_gelu", "silu")


def arguments(
    C: int = 5, N: int = 70, kernel: tuple[int, int] = (3, 3), size: tuple[int, int] = (9, 11), B: int = 2
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    weight = torch.randn(N, C, *kernel) / (C * kernel[0] * kernel[1]) ** 0.5
    return torch.randn(B, *size, C), ops.pack_conv_weight(weight), torch.randn(N)


def check(
    kernel: tuple[int, int], stride: int, padding: Sides, activation: ops.Activation, *args: torch.Tensor
) -> None:
    ours = on_every_level(
        lambda: ops.conv2d(*args, kernel=kernel, stride=stride, padding=padding, activation=activation)
    )
    residual = args[3] if len(args) > 3 else None
    assert_within_k(ours, conv2d_reference, *args[:3], residual, kernel, stride, padding, activation)


@pytest.mark.parametrize("size", [1, 3, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 130])
@pytest.mark.parametrize("axis", ["C", "N"])
def test_tails(axis: str, size: int) -> None:
    check((3, 3), 1, (1, 1, 1, 1), "none", *arguments(**{axis: size}))


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 97, 200])
@pytest.mark.parametrize("N", [16, 32, 48, 64])
def test_every_number_of_pixels(pixels: int, N: int) -> None:
    check((1, 1), 1, (0, 0, 0, 0), "relu", *arguments(C=20, N=N, kernel=(1, 1), size=(1, pixels), B=1))


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (1, 3), (7, 7), (4, 4)])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 0, 1), (3, 2, 1, 0), (5, 5, 5, 5)])
def test_windows(kernel: tuple[int, int], stride: int, padding: Sides) -> None:
    check(kernel, stride, padding, "none", *arguments(kernel=kernel))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_residual_is_added_before_the_activation(activation: ops.Activation) -> None:
    args = arguments()
    check((3, 3), 1, (1, 1, 1, 1), activation, *args, torch.randn(2, 9, 11, 70))


def test_a_large_window_is_one_sum() -> None:
    """512 channels of 3 x 3 do not fit into the cache at once; a split sum would round differently."""
    x, packed, bias = arguments(C=512, N=64, size=(5, 5))
    check((3, 3), 1, (1, 1, 1, 1), "none", x, packed, bias)
    inner = ops.conv2d(x, packed, bias, kernel=(3, 3))
    rows = F.unfold(x.permute(0, 3, 1, 2), 3).view(2, 512, 9, 9).permute(0, 3, 2, 1).reshape(18, -1).contiguous()
    assert torch.equal(inner.view(18, 64), ops.linear(rows, packed, bias))


def test_an_image_depends_on_itself_alone() -> None:
    x, packed, bias = arguments(B=5, N=130)
    run = {"kernel": (3, 3), "stride": 2, "padding": (0, 1, 0, 1)}
    whole = ops.conv2d(x, packed, bias, **run)  # type: ignore[arg-type]
    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        assert torch.equal(ops.conv2d(x, packed, bias, **run), whole)  # type: ignore[arg-type]
        for b in range(5):
            alone = ops.conv2d(x[b : b + 1].clone(), packed, bias, **run)  # type: ignore[arg-type]
            assert torch.equal(alone[0], whole[b])
    torch.set_num_threads(before)


def test_nan_reaches_the_windows_over_it_only() -> None:
    x, packed, bias = arguments(B=1)
    x[0, 4, 5, 2] = float("nan")
    bad = ops.conv2d(x, packed, bias, kernel=(3, 3), padding=(1, 1, 1, 1)).isnan()
    assert bad[0, 3:6, 4:7].all()
    assert bad.sum() == 9 * 70


def test_no_images() -> None:
    x, packed, bias = arguments(B=0)
    assert ops.conv2d(x, packed, bias, kernel=(3, 3)).shape == (0, 7, 9, 70)


def test_what_does_not_fit_is_named() -> None:
    x, packed, bias = arguments()
    with pytest.raises(ValueError, match=r"got x \(2, 9, 11, 4\)"):
        ops.conv2d(x[..., 1:], packed, bias, kernel=(3, 3))
    with pytest.raises(ValueError, match=r"got images \(2, 11\)"):
        ops.conv2d(x[:, :2], packed, bias, kernel=(3, 3))
    with pytest.raises(ValueError, match=r"got residual \(2, 9, 11, 70\), expected \(2, 7, 9, 70\)"):
        ops.conv2d(x, packed, bias, torch.randn(2, 9, 11, 70), kernel=(3, 3))
    with pytest.raises(ValueError, match="activation 'swish'"):
        ops.conv2d(x, packed, bias, kernel=(3, 3), activation="swish")  # type: ignore[arg-type]
    with pytest.raises((ValueError, RuntimeError), match="contiguous"):
        ops.conv2d(x.permute(0, 2, 1, 3), packed, bias, kernel=(3, 3))


@pytest.mark.parametrize("residual", [True, False])
def test_opcheck(residual: bool) -> None:
    args = (*arguments(), torch.randn(2, 4, 5, 70) if residual else None, [3, 3], 2, [0, 1, 0, 1], "relu")
    torch.library.opcheck(torch.ops.coldpress.conv2d.default, args)
