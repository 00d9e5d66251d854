"""Folded networks give the vectors of the networks they come from."""

from __future__ import annotations

import pytest
import torch
from conformance import randomise
from torch import nn

from coldpress.models.folding import folded

EXAMPLE = torch.randn(1, 3, 32, 24, generator=torch.Generator().manual_seed(0))


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def test_a_convolution_normalises_as_well() -> None:
    network = randomise(nn.Sequential(block(3, 8), block(8, 12))).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    ours = folded(network, EXAMPLE)
    assert (norms(network), norms(ours)) == (2, 0)
    with torch.no_grad():
        expected = network(EXAMPLE)
        assert (ours(EXAMPLE) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class Branch(nn.Module):
    """Uses what the convolution returns twice, which hooks cannot see."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y + self.norm(y)


class Shared(nn.Module):
    """Normalises two maps with one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.a(x)) + self.norm(self.b(x))


@pytest.mark.parametrize(
    "network", [Branch(), Shared(), nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)), nn.Flatten()]
)
def test_what_cannot_be_folded_stays(network: nn.Module) -> None:
    network = randomise(network).eval()
    ours = folded(network, EXAMPLE)
    assert norms(ours) == norms(network)
    with torch.no_grad():
        torch.testing.assert_close(ours(EXAMPLE), network(EXAMPLE), atol=1e-5, rtol=1e-5)
