"""Linear maps behind the pooling: the ``Dense`` modules of sentence-transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from coldpress.errors import ModelError
from coldpress.layers import Linear
from coldpress.models.base import Backbone, LoadedModel
from coldpress.models.names import read_json, required
from coldpress.models.weights import assign, hash_tensors, read_tensors
from coldpress.ops import Activation

_KNOWN: Mapping[str, Activation] = {"Identity": "none", "ReLU": "relu", "GELU": "gelu", "SiLU": "silu"}
_TANH = "Tanh"


@dataclass(frozen=True)
class DenseConfig:
    """One map: `inputs` to `outputs` values, then `activation`, by the name of torch's class."""

    inputs: int
    outputs: int
    bias: bool
    activation: str


class Dense(nn.Module):
    """A linear map with its activation, in fp32 in every mode: one row an item is no work."""

    def __init__(self, config: DenseConfig) -> None:
        super().__init__()
        self.tanh = config.activation == _TANH
        self.linear = Linear(config.inputs, config.outputs, _KNOWN.get(config.activation, "none"), sensitive=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs) to (B, outputs)."""
        mapped: torch.Tensor = self.linear(x)
        return torch.tanh(mapped) if self.tanh else mapped


class Head(nn.Sequential):
    """Maps one after the other; `width` is that of the last."""

    def __init__(self, configs: Sequence[DenseConfig]) -> None:
        super().__init__(*map(Dense, configs))
        self.width = configs[-1].outputs


def with_head(loaded: LoadedModel, directories: Sequence[Path], *, hashed: bool) -> LoadedModel:
    """Put the maps of these directories behind the pooling of a backbone, in their order.

    Raises
    ------
    ModelError
        If one of them is of an unknown kind, does not fit the one in front of it, or its weights do not fit it.
    """
    if type(loaded.backbone).dim is not Backbone.dim:
        raise ModelError(f"modules.json has Dense behind {loaded.family}, which has a last map of its own")
    configs = [_read(directory) for directory in directories]
    width = loaded.backbone.width
    for config, directory in zip(configs, directories, strict=True):
        if config.inputs != width:
            raise ModelError(f"{directory / 'config.json'}: in_features {config.inputs}, expected {width}")
        width = config.outputs
    head, digests = Head(configs), [loaded.weights]
    for number, (config, directory) in enumerate(zip(configs, directories, strict=True)):
        tensors = read_tensors(directory)
        names = {
            f"{number}.linear.{kind}": [f"linear.{kind}"] for kind in ("weight", *(["bias"] if config.bias else []))
        }
        try:
            assign(head, names, tensors)
        except ModelError as error:
            raise ModelError(f"{directory}: {error}") from None
        digests.append(hash_tensors(tensors) if hashed else "")
    loaded.backbone.head = head
    described = dict(loaded.config) | {"dense": [asdict(config) for config in configs]}
    weights = hashlib.sha256(json.dumps(digests).encode()).hexdigest() if hashed else ""
    return replace(loaded, config=described, weights=weights)


def _read(directory: Path) -> DenseConfig:
    path = directory / "config.json"
    config = read_json(path)
    if config.get("use_residual") or config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise ModelError(f"{path}: expected a map of the sentence's vector without a residual")
    name = str(config.get("activation_function", _TANH)).rpartition(".")[2]
    if name not in (*_KNOWN, _TANH):
        raise ModelError(f"{path}: activation_function {name!r}, expected one of {', '.join((*_KNOWN, _TANH))}")
    inputs, outputs = int(required(config, "in_features")), int(required(config, "out_features"))
    return DenseConfig(inputs, outputs, bool(config.get("bias", True)), name)
