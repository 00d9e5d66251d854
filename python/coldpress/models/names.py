"""Small readers of configuration files that all families share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coldpress.errors import ModelError
from coldpress.ops import Activation

_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu6": "relu6",
    "silu": "silu",
    "swish": "silu",
}


def activation_named(name: str) -> Activation:
    """Translate the name of an activation in a ``config.json``."""
    if name not in _ACTIVATIONS:
        raise ModelError(f"config.json: unknown activation {name!r}, expected one of {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name]


def required(config: Mapping[str, Any], key: str) -> Any:
    """Return a value that a ``config.json`` must have."""
    if key not in config:
        raise ModelError(f"config.json has no {key!r}; is the model directory complete?")
    return config[key]
