"""From the content of items to model inputs: decoded pixels, token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from coldpress.types import Content, Failed, ImageSpec, KnownInput, Modality, ModelInput, Spec

Known = Callable[[Sequence[str]], Sequence[bool]]
"""Tells for each content hash whether its vector is known already."""


class Preprocessor(Protocol):
    """Turns contents into model inputs, one each, in order. Safe to call from several threads.

    `seconds` accumulates the busy time of its steps by name.
    """

    @property
    def modality(self) -> Modality:
        """What it takes."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Busy seconds by step."""

    def __call__(
        self, contents: Sequence[Content], known: Known | None = None
    ) -> Sequence[ModelInput | KnownInput | Failed]:
        """Prepare each content; `Failed` with a reason where that is impossible.

        What is `known` may be left at its hash, where preparing it would be for nothing.
        """


def preprocessor_for(spec: Spec, directory: Path | None) -> Preprocessor:
    """Return the preprocessor that a spec asks for."""
    from coldpress.preprocess.image import ImagePreprocessor
    from coldpress.preprocess.text import TextPreprocessor

    made: Any = ImagePreprocessor(spec) if isinstance(spec, ImageSpec) else TextPreprocessor(spec, directory or Path())
    return made  # type: ignore[no-any-return]
