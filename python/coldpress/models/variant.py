"""What a user may change about a network itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coldpress.errors import ModelError
from coldpress.models.base import Backbone
from coldpress.models.options import ImageSize
from coldpress.models.vision import VisionTower


@dataclass(frozen=True)
class Variant:
    """How the network that runs differs from the one in the files.

    `layers` is how many blocks of a transformer run, from the first on; None is all. `merge_tokens` is how many patches
    of an image each block merges into others; 0 is none. `image_size` is that of images; None is theirs.
    """

    layers: int | None = None
    merge_tokens: int = 0
    image_size: ImageSize | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """What is not as in the files, by the name of the option."""
        chosen = {"layers": self.layers, "merge_tokens": self.merge_tokens or None, "image_size": self.image_size}
        return {name: value for name, value in chosen.items() if value is not None}

    def refuse(self, why: str) -> None:
        """Raise ModelError for whatever is changed, if anything is."""
        for name, value in self.changes.items():
            raise ModelError(f"{name} is {value}, and {why}; leave {name} out")


def merging(backbone: Backbone, tokens: int) -> None:
    """Let each block of a vision transformer merge so many patches; 0 changes nothing.

    Raises
    ------
    ModelError
        If it is something else, or cannot merge so many.
    """
    if not tokens:
        return
    if not isinstance(backbone, VisionTower):
        kind = "takes texts" if backbone.modality == "text" else "is convolutional"
        raise ModelError(f"merge_tokens is {tokens}, and this network {kind}; it is for vision transformers")
    backbone.merge(tokens)
