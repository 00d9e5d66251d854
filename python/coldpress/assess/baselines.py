"""What features have to beat, computed on the same items: the raw input, and the same network with random weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from coldpress import models
from coldpress.assess.judge import spanned
from coldpress.errors import ColdpressError
from coldpress.extractor import Extractor
from coldpress.preprocess import preprocessor_for
from coldpress.probes.features import Features
from coldpress.types import Content, Failed, ImageSpec, Modality

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

Array = npt.NDArray[Any]

SIDE = 32
"""Pixels of the raw image, in either direction."""
_SMALL = ImageSpec(("exact", SIDE, SIDE), None, "bilinear", 1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WORDS, LETTERS = (1, 2), (1, 4)
"""Lengths of the sequences of words and of characters that a text is taken apart into."""
_INIT_STD = 0.02
_LOADING = ("modality", "arch", "layers", "merge_tokens", "image_size")
_SHAPING = ("output", "prompt", "exif", "fast_decode", "truncate_dim")


def raw_features(contents: Sequence[Content], modality: Modality) -> Features:
    """Vectors of the input itself: TF-IDF of words and letters, or the pixels of the image at 32 x 32."""
    vectors = _tf_idf([str(content) for content in contents]) if modality == "text" else _pixels(contents)
    return Features(vectors, np.arange(len(vectors)), lambda row: f"raw input {row}")


def _tf_idf(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """(N, R): turned into the space that the texts span. Letters keep their case, which words do not."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    parts = [
        TfidfVectorizer(ngram_range=WORDS, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
        TfidfVectorizer(ngram_range=LETTERS, sublinear_tf=True, analyzer="char_wb", lowercase=False),
    ]
    gram = np.zeros((len(texts), len(texts)))
    for part in parts:
        try:
            found = part.fit_transform(texts)
        except ValueError:  # not one word in any of them
            continue
        gram += (found @ found.T).toarray()
    return spanned(gram)


def _pixels(contents: Sequence[Content]) -> npt.NDArray[np.float32]:
    made = preprocessor_for(_SMALL, None)(contents)
    failed = next((one for one in made if isinstance(one, Failed)), None)
    if failed is not None:
        raise ColdpressError(f"an image cannot be read any more: {failed.reason}")
    pixels = np.stack([one.pixels for one in made])  # type: ignore[union-attr]
    return np.asarray(pixels.reshape(len(pixels), -1).astype(np.float32) / 255)


def untrained(store: EmbeddingStore, seed: int = 0) -> Extractor:
    """The extractor that made a store, in fp32 and with random weights: what its architecture alone is worth.

    Raises
    ------
    ColdpressError
        If coldpress did not embed it, or its model is not where it was.
    """
    described = store.description
    if "model" not in described:
        raise ColdpressError("the vectors were not made by coldpress embed")
    loaded = models.load(described["model"], **{name: described[name] for name in _LOADING if name in described})
    randomise(loaded.backbone, seed)
    options = {name: described[name] for name in _SHAPING if name in described}
    return Extractor(replace(loaded, reload=None), precision="fp32", **options)


def randomise(network: nn.Module, seed: int) -> None:
    """Give a network the weights it may have had before any training.

    Convolutions as He et al. (2015), other matrices, embeddings and tokens normal with 0.02, scales 1, shifts 0;
    running statistics of normalisations as if nothing had been seen.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if tensor.is_floating_point():
                tensor.copy_(_initial(name.rsplit(".", 1)[-1], tensor, generator))
        for name, statistic in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                statistic.fill_(float(name.endswith("var")))


def _initial(kind: str, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if tensor.dim() <= 1 and kind.endswith(("bias", "mean", "beta", "shift")):
        return torch.zeros_like(tensor)
    if tensor.dim() <= 1 and kind.endswith(("weight", "weights", "var", "gamma", "scale")):
        return torch.ones_like(tensor)
    std = math.sqrt(2 / tensor[0].numel()) if tensor.dim() == 4 else _INIT_STD
    return std * torch.randn(tensor.shape, generator=generator)
