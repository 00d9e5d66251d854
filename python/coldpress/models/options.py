"""What a user may change about how the inputs of a model are prepared."""

from __future__ import annotations

from dataclasses import replace

from coldpress.errors import ColdpressError
from coldpress.models.base import LoadedModel
from coldpress.models.prompts import remind_of_prompts
from coldpress.types import ImageSpec


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
