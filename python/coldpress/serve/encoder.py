"""`Encoder`: an extractor between requests and the batching queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from coldpress.engine.plan import BATCH_IMAGES, BATCH_TOKENS
from coldpress.serve.limits import Limits
from coldpress.serve.refusals import invalid, too_large
from coldpress.types import Failed, ModelInput, TextInput

if TYPE_CHECKING:
    from coldpress.extractor import Extractor

QUICK_CHARACTERS = 4000
"""Texts of so many characters together are tokenised in 0.2 ms: as long as handing them to another thread takes."""

CANARY = "a"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Model inputs of a request, what each costs, and what is to be said about them."""

    inputs: Sequence[ModelInput]
    costs: Sequence[int]
    tokens: int
    truncated: tuple[bool, ...]


class Encoder:
    """Prepares the texts or images of requests and computes their vectors.

    Parameters
    ----------
    extractor : makes the vectors.
    columns : which of its numbers are served.
    limits : of a request.
    """

    def __init__(self, extractor: Extractor, columns: slice, limits: Limits) -> None:
        self.extractor, self.columns, self.limits = extractor, columns, limits
        self.modality = extractor.modality
        self.dim: int = columns.stop - columns.start
        self.canary: ModelInput = self.prepare([CANARY if self.modality == "text" else _gray_image()]).inputs[0]
        self.compute([self.canary])  # the first time takes up to seconds

    @property
    def batch_cost(self) -> int:
        """Tokens or images that keep every thread busy for one of the batches that the engine makes of them."""
        device = self.extractor.device.type
        threads = torch.get_num_threads() if device == "cpu" else 1
        return (BATCH_TOKENS if self.modality == "text" else BATCH_IMAGES)[device] * threads

    def quick(self, contents: Sequence[str | bytes]) -> bool:
        """Whether preparing these takes less time than another thread would."""
        return self.modality == "text" and sum(map(len, contents)) <= QUICK_CHARACTERS

    def prepare(self, contents: Sequence[str | bytes], field: str | None = None) -> Prepared:
        """Turn texts, or the bytes of image files, into model inputs. Safe to call from several threads.

        Raises
        ------
        Refused
            Naming `field`, the part of the request that they come from: 422 for what cannot be read, 413 for too much.
        """
        for i, content in enumerate(contents):
            if isinstance(content, bytes):
                _check_pixels(content, self.limits.pixels, place_of(field, i, contents))
        prepared = self.extractor.prepare(list(contents))
        inputs: list[ModelInput] = []
        for i, made in enumerate(prepared):
            if isinstance(made, Failed):
                fail = too_large if made.reason.startswith("too large") else invalid
                raise fail(f"cannot be embedded: {made.reason}", place_of(field, i, contents))
            inputs.append(made)
        costs = [max(1, len(one.ids)) if isinstance(one, TextInput) else 1 for one in inputs]
        truncated = tuple(isinstance(one, TextInput) and one.truncated for one in inputs)
        return Prepared(inputs, costs, sum(costs) if self.modality == "text" else 0, truncated)

    def compute(self, inputs: Sequence[ModelInput]) -> npt.NDArray[np.float32]:
        """The vectors (N, D) of prepared items."""
        return np.ascontiguousarray(self.extractor.compute(inputs)[:, self.columns])


def place_of(field: str | None, i: int, contents: Sequence[object]) -> str | None:
    """Where item `i` of a field stands in the request."""
    return field if field is None or len(contents) == 1 else f"{field}[{i}]"


def _check_pixels(file: bytes, most: int, field: str | None) -> None:
    """Refuse an image by what its header says; one that has none is left to those who decode."""
    try:
        with Image.open(BytesIO(file)) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise too_large(f"an image of more than {most / 1e6:g} megapixels", field) from None
    except Exception:  # the preprocessor says what is wrong with it
        return
    if width * height > most:
        raise too_large(f"an image of {width}x{height} pixels, limit {most / 1e6:g} megapixels", field)


def _gray_image() -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), (128, 128, 128)).save(file, "PNG")
    return file.getvalue()
