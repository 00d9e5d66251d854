"""Running only the first blocks of a transformer."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from coldpress.errors import ModelError
from coldpress.models.encoder import EncoderConfig
from coldpress.models.text_tower import TextConfig
from coldpress.models.vision import VisionConfig

_BLOCK = re.compile(r"(?:^|\.)(?:layers?|blocks|resblocks)\.(\d+)\.")
"""Where the checkpoints of all transformers here have the number of a block."""


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
        return replace(config, depth=layers, rotations=config.rotations[:layers], windows=config.windows[:layers])
    return replace(config, depth=layers)


def is_kept(name: str, layers: int) -> bool:
    """Whether a tensor of a checkpoint belongs to one of the first `layers` blocks, or to none."""
    found = _BLOCK.search(name)
    return found is None or int(found[1]) < layers
