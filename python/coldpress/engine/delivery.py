"""A chunk of a run that is prepared and computed elsewhere: who does it, and what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from coldpress.engine.compute import Computer
from coldpress.engine.sample import Prepared, prepare_items
from coldpress.engine.vectors import Vectors
from coldpress.preprocess import Preprocessor
from coldpress.types import Failed, ImageInput, Item, KnownHashes, KnownInput

_NO_PIXELS = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a chunk: an input for each item (images without pixels), and the vectors of `hashes`.

    Those are the distinct contents that were not known, in order. `seconds` were spent on each step.
    """

    inputs: Sequence[Prepared]
    hashes: Sequence[str]
    vectors: Vectors
    seconds: Mapping[str, float]

    def take(self, hashes: Sequence[str]) -> Vectors:
        """The vectors of some of the contents."""
        places = {digest: place for place, digest in enumerate(self.hashes)}
        rows = np.array([places[digest] for digest in hashes], np.int64)
        return {name: values[rows] for name, values in self.vectors.items()}


class Crew(Protocol):
    """Workers that share the chunks of a run among them. Called from `slots` threads."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def slots(self) -> int:
        """How many chunks are under way at a time."""

    def __call__(self, items: Sequence[Item], known: KnownHashes) -> Delivery:
        """Have a chunk prepared and computed, again by another worker if the first one is lost.

        Raises
        ------
        ColdpressError
            If it cannot be done by anybody.
        """


class Worker:
    """Prepares and computes chunks on one device: prepares several at a time, computes one after the other."""

    def __init__(self, preprocess: Preprocessor, compute: Computer) -> None:
        self._preprocess, self._compute = preprocess, compute
        self._lock = threading.Lock()
        self._told = dict(preprocess.seconds)

    def __call__(self, items: Sequence[Item], known: KnownHashes) -> Delivery:
        """The delivery of a chunk."""
        inputs = prepare_items(self._preprocess, items, known)
        good = {one.content_hash: one for one in reversed(inputs) if not isinstance(one, Failed | KnownInput)}
        hashes = list(reversed(good))
        if self._preprocess.modality == "text" and hashes:  # a tokenizer does not ask, it has metadata to find out
            hashes = [digest for digest, is_known in zip(hashes, known(hashes), strict=True) if not is_known]
        with self._lock:
            started = time.perf_counter()
            vectors = self._compute([good[digest] for digest in hashes])
            spent = {"compute": time.perf_counter() - started, **self._prepared_s()}
        light = [replace(one, pixels=_NO_PIXELS) if isinstance(one, ImageInput) else one for one in inputs]
        return Delivery(light, hashes, vectors, spent)

    def _prepared_s(self) -> dict[str, float]:
        """Busy seconds of each step that no delivery has told of yet, whichever chunk they went into."""
        now, before = dict(self._preprocess.seconds), self._told
        self._told = now
        return {name: seconds - before[name] for name, seconds in now.items()}
