"""Running only the first blocks of a transformer."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from coldpress.errors import ModelError
from coldpress.models.encoder import EncoderConfig
from coldpress.models.text_tower import TextConfig
from coldpress.models.vision import VisionConfig

_BLOCK = re.compile(r"(?:^|\.)(?:layers?|blocks|resblocks|albert_layer_groups)\.(\d+)\.")
"""Where the checkpoints of all transformers here have the number of a block, or of the weights that blocks share."""


def first_blocks(config: Any, layers: int) -> Any:
    """Return the configuration of the network of the first `layers` blocks; what follows the last block stays.

    Raises
    ------
    ModelError
        If it is no transformer, or has fewer blocks.
    """
    if not isinstance(config, EncoderConfig | TextConfig | VisionConfig):
        raise ModelError(f"layers is {layers}, and this is no transformer of a known family; leave layers out")
    if not 1 <= layers <= config.depth:
        raise ModelError(f"layers is {layers}, expected 1 to {config.depth}, the blocks of this model")
    if isinstance(config, EncoderConfig):
        each = {name: getattr(config, name)[:layers] for name in ("rotations", "windows", "groups")}
        return replace(config, depth=layers, **each)
    return replace(config, depth=layers)


def is_kept(name: str, config: Any) -> bool:
    """Whether a tensor of a checkpoint belongs to one of the blocks of a configuration, or to none."""
    stored = len(config.first_uses) if isinstance(config, EncoderConfig) else config.depth
    found = _BLOCK.search(name)
    return found is None or int(found[1]) < stored
