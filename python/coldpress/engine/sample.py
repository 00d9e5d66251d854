"""Items prepared for a run, and the few of them that certify it: as the run prepares them and as upstream does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coldpress.errors import ItemError
from coldpress.preprocess import Preprocessor
from coldpress.types import Content, Failed, Item, KnownHashes, KnownInput, ModelInput

Prepared = ModelInput | KnownInput | Failed


@dataclass(frozen=True, slots=True)
class Sample:
    """Model inputs, and the same items without the shortcuts of the preprocessing: what the reference is fed."""

    inputs: Sequence[ModelInput]
    exact: Sequence[ModelInput]

    def __len__(self) -> int:
        return len(self.inputs)


def spread_sample(preprocess: Preprocessor, contents: Sequence[Content | Failed], size: int) -> Sample:
    """Take the good ones among `size` contents that are spread evenly over all.

    Raises
    ------
    ItemError
        If there are none.
    """
    places = np.linspace(0, len(contents) - 1, min(size, len(contents))).astype(int)
    chosen = [contents[place] for place in places]
    sample = take_sample(preprocess, chosen, preprocess(chosen), max(len(chosen), 1))
    if not sample:
        raise ItemError(f"none of {len(chosen)} sampled items can be embedded; nothing to certify")
    return sample


def take_sample(
    preprocess: Preprocessor, contents: Sequence[Content | Failed], inputs: Sequence[Prepared], size: int
) -> Sample:
    """Take distinct good inputs, spread over a chunk; as few as there are."""
    good = {
        prepared.content_hash: (content, prepared)
        for content, prepared in zip(contents, inputs, strict=True)
        if not isinstance(prepared, Failed | KnownInput) and not isinstance(content, Failed)
    }
    chosen = list(good.values())[:: max(1, len(good) // size)][:size]
    prepared = [one for _, one in chosen]
    if preprocess.exact is preprocess:
        return Sample(prepared, prepared)
    exact = preprocess.exact([content for content, _ in chosen])
    pairs = [(ours, true) for ours, true in zip(prepared, exact, strict=True) if not isinstance(true, Failed)]
    return Sample([ours for ours, _ in pairs], [true for _, true in pairs])


def prepare_items(preprocess: Preprocessor, items: Sequence[Item], known: KnownHashes | None = None) -> list[Prepared]:
    """Preprocess a chunk; entries that the source itself could not read stay failed."""
    contents = [item.content for item in items if not isinstance(item.content, Failed)]
    prepared = iter(preprocess(contents, known))
    return [item.content if isinstance(item.content, Failed) else next(prepared) for item in items]
