"""Batches of one shape, whatever is in them: what a GPU runs as one CUDA graph, and computes in the same bits always.

Libraries choose the kernel of a product by its shape, and another kernel rounds differently. So every batch has as many
tokens and items as the budget says. What a batch lacks is filled up by texts of one token and more, or by images that
nobody looks at. Only the length of the longest text varies, in powers of two: it sizes launches of attention, and
changes no bit there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coldpress.types import ImageInput, ImageSpec, ModelInput, Spec, TextInput

Ints = npt.NDArray[np.int32]

BATCH_TEXTS = 512
"""Texts of a batch, at most; with the fillers there are a few more sequences."""

BATCH_TOKENS = 16_384
"""Tokens of a batch, fillers included: 2.8 TFLOP of a BERT-base, 4 ms of a GPU that reaches 700 TFLOP/s."""

BATCH_PIXELS = 128 * 224 * 224
"""Pixels of a batch: 128 images of a ViT at 224, 23 at 518; 4.5 TFLOP of a ViT-B/16."""

LEAST_IMAGES, MOST_IMAGES = 8, 128
LEAST_LONGEST = 128


@dataclass(frozen=True, slots=True)
class Budget:
    """The shape of every batch.

    Attributes
    ----------
    items : images, or sequences with the fillers.
    tokens : of texts, with those of the fillers; 0 for images.
    longest : of a text, in tokens; 0 for images.
    size : (height, width) of an image; None for texts.
    """

    items: int
    tokens: int = 0
    longest: int = 0
    size: tuple[int, int] | None = None

    @property
    def most_texts(self) -> int:
        """Of a batch: the other sequences can take all of its tokens."""
        return self.items - -(-self.tokens // self.longest)

    @property
    def most_tokens(self) -> int:
        """Of the texts of a batch: every filler has one."""
        return self.tokens - self.items

    def halved(self) -> Budget | None:
        """Half as much in a batch, for a device that lacks memory; None where that is no batch any more."""
        if self.size is not None:
            return replace(self, items=self.items // 2) if self.items > 1 else None
        return _of_texts(self.most_texts // 2, self.tokens // 2, self.longest)


def budget_of(spec: Spec) -> Budget | None:
    """The budget of a model; None where there is no greatest length or no size of its inputs."""
    if isinstance(spec, ImageSpec):
        if spec.size is None:
            return None
        fitting = BATCH_PIXELS // max(spec.size[0] * spec.size[1], 1)
        return Budget(min(max(fitting, LEAST_IMAGES), MOST_IMAGES), size=spec.size)
    if spec.max_tokens is None:
        return None
    return _of_texts(BATCH_TEXTS, max(BATCH_TOKENS, 2 * spec.max_tokens), spec.max_tokens)


def _of_texts(texts: int, tokens: int, longest: int) -> Budget | None:
    """A budget for so many texts, if the longest one fits."""
    made = Budget(texts + -(-tokens // longest), tokens, longest)
    return made if texts and made.most_tokens >= longest else None


def cut(inputs: Sequence[ModelInput], budget: Budget) -> Iterator[list[int]]:
    """Numbers of the inputs of each batch; texts by their lengths, so that those of a batch are about equally long."""
    if budget.size is not None:
        for begin in range(0, len(inputs), budget.items):
            yield list(range(begin, min(begin + budget.items, len(inputs))))
        return
    lengths = [len(one.ids) for one in inputs if isinstance(one, TextInput)]
    batch: list[int] = []
    tokens = 0
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (tokens + lengths[number] > budget.most_tokens or len(batch) == budget.most_texts):
            yield batch
            batch, tokens = [], 0
        batch.append(number)
        tokens += lengths[number]
    if batch:
        yield batch


def fill_texts(texts: Sequence[Ints], budget: Budget, ids: Ints, cu_seqlens: Ints) -> int:
    """Write texts and their fillers into `ids` (tokens,) and their bounds into `cu_seqlens` (items + 1,).

    Returns
    -------
    What no sequence is longer than, a power of two or the longest text there can be.
    """
    own = np.array([len(text) for text in texts], np.int64)
    used, slots = int(own.sum()), budget.items - len(texts)
    longest = LEAST_LONGEST
    while longest < budget.longest and (longest < own.max(initial=0) or slots * longest < budget.tokens - used):
        longest *= 2
    longest = min(longest, budget.longest)
    spare = budget.tokens - used - slots  # behind the one token that every filler has
    more = np.clip(spare - np.arange(slots) * (longest - 1), 0, longest - 1)
    ids[:used] = np.concatenate(texts)
    ids[used:] = 0
    cu_seqlens[0] = 0
    cu_seqlens[1:] = np.cumsum(np.concatenate([own, 1 + more]))
    return longest


def fill_images(images: Sequence[ImageInput], pixels: npt.NDArray[np.uint8]) -> None:
    """Write images into `pixels` (items, height, width, 3); what lies behind them stays as it was."""
    for place, image in zip(pixels, images, strict=False):
        place[:] = image.pixels
