"""The depthwise convolution, alone and between its two pointwise neighbours."""

from __future__ import annotations

import pytest
import torch
from rule import assert_within_k, on_every_level

from coldpress import ops
from coldpress.ops.depthwise_conv2d import depthwise_conv2d_reference
from coldpress.ops.separable_conv2d import separable_conv2d_reference

Sides = tuple[int, int, int, int]
SAME: Sides = (1, 1, 1, 1)


def arguments(
    C: int = 20, kernel: int = 3, size: tuple[int, int] = (9, 14), B: int = 2
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(B, *size, C), ops.pack_taps(torch.randn(C, 1, kernel, kernel) / kernel), torch.randn(C)


def check(
    kernel: int, stride: int, dilation: int, padding: Sides, activation: ops.Activation, *args: torch.Tensor
) -> None:
    window = (kernel, kernel)
    ours = on_every_level(
        lambda: ops.depthwise_conv2d(
            *args, kernel=window, stride=stride, dilation=dilation, padding=padding, activation=activation
        )
    )
    assert_within_k(ours, depthwise_conv2d_reference, *args, window, stride, dilation, padding, activation)


@pytest.mark.parametrize("C", [1, 3, 15, 16, 17, 31, 32, 33, 64, 100])
@pytest.mark.parametrize("activation", ["none", "relu6", "silu"])
def test_tails(C: int, activation: ops.Activation) -> None:
    check(3, 1, 1, SAME, activation, *arguments(C))


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 28, 31])
@pytest.mark.parametrize(("stride", "padding"), [(1, SAME), (2, (0, 1, 0, 1)), (2, SAME), (1, (0, 0, 2, 2))])
def test_every_width(width: int, stride: int, padding: Sides) -> None:
    check(3, stride, 1, padding, "relu", *arguments(32, size=(5, width + 2)))


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (3, 2, 4, 5)])
def test_windows(kernel: int, stride: int, dilation: int, padding: Sides) -> None:
    check(kernel, stride, dilation, padding, "none", *arguments(kernel=kernel, size=(13, 19)))


def test_an_image_depends_on_itself_alone() -> None:
    x, taps, bias = arguments(B=5)
    whole = ops.depthwise_conv2d(x, taps, bias, kernel=(3, 3), padding=SAME)
    for b in range(5):
        alone = ops.depthwise_conv2d(x[b : b + 1].clone(), taps, bias, kernel=(3, 3), padding=SAME)
        assert torch.equal(alone[0], whole[b])


def test_what_does_not_fit_is_named() -> None:
    x, taps, bias = arguments()
    assert ops.depthwise_conv2d(x[:0], taps, bias, kernel=(3, 3)).shape == (0, 7, 12, 20)
    with pytest.raises(ValueError, match=r"taps \(9, 20\), bias \(20,\), kernel \(2, 3\)"):
        ops.depthwise_conv2d(x, taps, bias, kernel=(2, 3))
    with pytest.raises(ValueError, match="h at most 16"):
        ops.depthwise_conv2d(x, torch.randn(17, 20), bias, kernel=(17, 1))
    with pytest.raises(ValueError, match="expected to hold"):
        ops.depthwise_conv2d(x, taps, bias, kernel=(3, 3), dilation=7)


def test_opcheck() -> None:
    args = (*arguments(), [3, 3], 2, 1, [0, 1, 0, 1], "relu")
    torch.library.opcheck(torch.ops.coldpress.depthwise_conv2d.default, args)


# B, height, width, C, E (0: no expansion), N, kernel, stride, dilation, padding, residual
BLOCKS = [
    (2, 9, 11, 8, 48, 8, 3, 1, 1, SAME, True),
    (1, 15, 14, 24, 144, 40, 3, 2, 1, (0, 1, 0, 1), False),
    (3, 12, 12, 64, 0, 33, 5, 1, 1, (2, 2, 2, 2), False),
    (1, 30, 13, 17, 70, 20, 3, 1, 2, (2, 2, 2, 2), False),
    (2, 7, 7, 32, 200, 32, 3, 1, 1, SAME, True),
    (1, 3, 60, 4, 20, 6, 3, 2, 1, SAME, False),
]  # fmt: skip


def folded(N: int, C: int) -> ops.Folded:
    return ops.Folded(ops.pack_conv_weight(torch.randn(N, C, 1, 1) / C**0.5), torch.randn(N))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_separable_block_gives_the_bits_of_its_layers(block: tuple[int, ...]) -> None:
    B, height, width, C, E, N, kernel, stride, dilation, padding, residual = block
    x, expand, project = torch.randn(B, height, width, C), folded(E, C) if E else None, folded(N, E or C)
    middle = ops.Folded(torch.randn(kernel * kernel, E or C) / kernel, torch.randn(E or C))
    window = {"kernel": (kernel, kernel), "stride": stride, "dilation": dilation, "padding": padding}
    wide = x if expand is None else ops.conv2d(x, *expand, kernel=(1, 1), activation="relu6")
    wide = ops.depthwise_conv2d(wide, *middle, **window, activation="relu6")  # type: ignore[arg-type]
    expected = ops.conv2d(wide, *project, x if residual else None, kernel=(1, 1), activation="silu")
    before = torch.get_num_threads()
    for threads in (1, 2, 7):  # more threads than images: they share an image
        torch.set_num_threads(threads)
        ours = on_every_level(
            lambda: ops.separable_conv2d(
                x,
                expand,
                middle,
                project,
                **window,
                inner="relu6",
                outer="silu",
                residual=bool(residual),  # type: ignore[arg-type]
            )
        )
        assert torch.equal(ours, expected)
    torch.set_num_threads(before)


def test_separable_opcheck_and_messages() -> None:
    x, middle = torch.randn(2, 6, 6, 8), ops.Folded(torch.randn(9, 24), torch.randn(24))
    expand, project = folded(24, 8), folded(8, 24)
    args = (x, *expand, *middle, *project, [3, 3], 1, 1, [1, 1, 1, 1], "relu6", "none", True)
    torch.library.opcheck(torch.ops.coldpress.separable_conv2d.default, args)
    assert_within_k(torch.ops.coldpress.separable_conv2d.default(*args), separable_conv2d_reference, *args)
    with pytest.raises(ValueError, match="an expand from C to E unless they are equal"):
        ops.separable_conv2d(x, None, middle, project, kernel=(3, 3))
    with pytest.raises(ValueError, match="a residual only where the output has their shape"):
        ops.separable_conv2d(x, expand, middle, project, kernel=(3, 3), residual=True)
