"""Small readers of configuration files that all families share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, with an error that names the file."""
    value = read_json_value(path)
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def read_json_value(path: Path) -> Any:
    """Read JSON of any kind, with an error that names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; is the model directory complete?") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
