"""What a user may change about how the inputs of a model are prepared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from coldpress.errors import ColdpressError, ModelError
from coldpress.models.base import LoadedModel
from coldpress.models.prompts import remind_of_prompts
from coldpress.types import ImageSpec, Spec


def with_options(loaded: LoadedModel, *, prompt: str | None, exif: bool, fast_decode: bool | str) -> LoadedModel:
    """Return the model with other preprocessing; see :class:`coldpress.Extractor` for the options.

    Raises
    ------
    ColdpressError
        For an option that its kind of input does not have.
    """
    if isinstance(fast_decode, str) and not re.fullmatch(r"gpu(:[1-9]\d?)?", fast_decode):
        raise ColdpressError(f"fast_decode is {fast_decode!r}, expected True, False, 'gpu', or 'gpu:1' to 'gpu:99'")
    if isinstance(loaded.spec, ImageSpec):
        if prompt is not None:
            raise ColdpressError(f"{loaded.name} takes images; a prompt is for text models")
        spec = loaded.spec
        changed = replace(spec, exif=exif or spec.exif, fast_decode=fast_decode or spec.fast_decode)
        return replace(loaded, spec=changed)
    if exif or fast_decode:
        raise ColdpressError(f"{loaded.name} takes texts; exif and fast_decode are for image models")
    if prompt is None:
        remind_of_prompts(loaded)
        return loaded
    return replace(loaded, spec=replace(loaded.spec, prompt=(loaded.prompts or {}).get(prompt, prompt)))


ImageSize = int | Sequence[int] | str
"""Side of a square, height and width, or ``native`` or ``native:N``: shapes kept, N patches at most."""


def with_image_size(spec: Spec, image_size: ImageSize, patch: int | None) -> ImageSpec:
    """Return a specification of images of another size; `patch` is the side of those that the network cuts them into.

    What a centre crop leaves out stays the same share of the image. A resized short side follows the longer of the two,
    so that the crop fits. Where shapes are kept nothing is cropped, and the number of patches is at most that of the
    size before, if none is given.

    Raises
    ------
    ModelError
        If the model takes texts, or images that keep their shapes; if it is no size.
    """
    if not isinstance(spec, ImageSpec):
        raise ModelError(f"image_size is {image_size}, and this network takes texts; leave image_size out")
    if isinstance(image_size, str):
        return _with_shapes_kept(spec, image_size, patch)
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    shown = "x".join(map(str, sides))
    if spec.keeps_shape:
        raise ModelError(f"image_size is {shown}, and this network takes images that keep their shapes: native:N")
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


def _with_shapes_kept(spec: ImageSpec, image_size: str, patch: int | None) -> ImageSpec:
    asked = re.fullmatch(r"native(?::([1-9]\d*))?", image_size)
    if asked is None:
        raise ModelError(f"image_size is {image_size!r}, expected a side, a height and a width, native or native:N")
    if patch is None:
        raise ModelError(f"image_size is {image_size}, and this network is convolutional: it takes images of one size")
    if spec.keeps_shape and spec.resize is not None:
        most = spec.resize[2]
    elif spec.size is not None:
        most = (spec.size[0] // patch) * (spec.size[1] // patch)
    elif asked[1] is None:
        raise ModelError("image_size is native, and preprocessing makes images of varying size: say how many patches")
    return replace(spec, resize=("patches", patch, int(asked[1] or most)), crop=None)
