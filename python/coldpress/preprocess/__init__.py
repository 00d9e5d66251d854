"""From the content of items to model inputs: decoded pixels, token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, overload

from coldpress.types import Content, Failed, ImageSpec, KnownHashes, KnownInput, Modality, ModelInput, Spec


class Preprocessor(Protocol):
    """Turns contents into model inputs, one each, in order. Safe to call from several threads.

    `seconds` accumulates the busy time of its steps by name, summed over threads.
    """

    @property
    def modality(self) -> Modality:
        """What it takes."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Busy seconds by step."""

    @property
    def exact(self) -> Preprocessor:
        """The same without shortcuts, as upstream prepares; itself where it takes none."""

    @overload
    def __call__(self, contents: Sequence[Content], known: None = None) -> Sequence[ModelInput | Failed]: ...

    @overload
    def __call__(
        self, contents: Sequence[Content], known: KnownHashes
    ) -> Sequence[ModelInput | KnownInput | Failed]: ...

    def __call__(
        self, contents: Sequence[Content], known: KnownHashes | None = None
    ) -> Sequence[ModelInput | KnownInput | Failed]:
        """Prepare each content; `Failed` with a reason where that is impossible.

        Contents whose hash is `known` may come back as `KnownInput`, where that saves work.
        """


def preprocessor_for(spec: Spec, directory: Path | None) -> Preprocessor:
    """Return the preprocessor that a spec asks for."""
    from coldpress.preprocess.image import ImagePreprocessor
    from coldpress.preprocess.text import TextPreprocessor

    made: Any = ImagePreprocessor(spec) if isinstance(spec, ImageSpec) else TextPreprocessor(spec, directory or Path())
    return made  # type: ignore[no-any-return]
