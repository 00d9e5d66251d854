"""What a user may change about how the inputs of a model are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from coldpress.errors import ColdpressError, ModelError
from coldpress.models.base import LoadedModel
from coldpress.models.prompts import remind_of_prompts
from coldpress.types import ImageSpec, Spec


def with_options(loaded: LoadedModel, *, prompt: str | None, exif: bool, fast_decode: bool) -> LoadedModel:
    """Return the model with other preprocessing; see :class:`coldpress.Extractor` for the options.

    Raises
    ------
    ColdpressError
        For an option that its kind of input does not have.
    """
    if isinstance(loaded.spec, ImageSpec):
        if prompt is not None:
            raise ColdpressError(f"{loaded.name} takes images; a prompt is for text models")
        changed = replace(
            loaded.spec, exif=exif or loaded.spec.exif, fast_decode=fast_decode or loaded.spec.fast_decode
        )
        return replace(loaded, spec=changed)
    if exif or fast_decode:
        raise ColdpressError(f"{loaded.name} takes texts; exif and fast_decode are for image models")
    if prompt is None:
        remind_of_prompts(loaded)
        return loaded
    return replace(loaded, spec=replace(loaded.spec, prompt=(loaded.prompts or {}).get(prompt, prompt)))


def with_image_size(spec: Spec, image_size: int | Sequence[int]) -> ImageSpec:
    """Return a specification of images of another size: the side of a square, or height and width.

    What a centre crop leaves out stays the same share of the image. A resized short side follows the longer of the two,
    so that the crop fits.

    Raises
    ------
    ModelError
        If the model takes texts, or images that keep their shapes; if it is no size.
    """
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    shown = "x".join(map(str, sides))
    if not isinstance(spec, ImageSpec) or (spec.resize is not None and spec.resize[0] == "patches"):
        what = "images that keep their shapes" if isinstance(spec, ImageSpec) else "texts"
        raise ModelError(f"image_size is {shown}, and this network takes {what}; leave image_size out")
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ModelError(f"image_size is {shown}, expected the side of a square, or height and width, in pixels")
    height, width = sides
    before, kind = spec.crop or spec.size, spec.resize[0] if spec.resize else None
    resize: tuple[Any, ...] | None = spec.resize
    if spec.resize is not None and before is not None:
        factors = [height / before[0], width / before[1]]
        chosen = [max(factors)] if kind == "shortest_edge" else factors
        resize = (kind, *(round(side * factor) for side, factor in zip(spec.resize[1:], chosen, strict=True)))
    elif kind == "shortest_edge":
        resize = (kind, max(sides))
    fixed = spec.crop is None and kind == "exact"
    return replace(spec, resize=resize, crop=None if fixed else (height, width))
