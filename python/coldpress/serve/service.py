"""`Service`: one vector space with its models, index and head, behind the queues. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from coldpress._process import cores
from coldpress.errors import ColdpressError
from coldpress.serve.batching import Batch, BatchQueue, ItemFailed
from coldpress.serve.catalogue import Catalogue
from coldpress.serve.encoder import Encoder, Prepared, place_of
from coldpress.serve.metrics import Metrics
from coldpress.serve.opening import Opened, Places, open_all, reopen
from coldpress.serve.refusals import Refused, invalid, not_found, overloaded
from coldpress.serve.watch import open_watches
from coldpress.types import Modality, ModelInput

if TYPE_CHECKING:
    from coldpress.index import VectorIndex
    from coldpress.probes import Head

logger = logging.getLogger(__name__)
R = TypeVar("R")
Where = Mapping[str, Any]

CAPACITY_BATCHES = {"text": 256, "image": 32}
"""Full batches that may wait: a few megabytes of token numbers, on two cores 77 MB of images of 224 x 224."""

PATIENCE = 0.5
"""Part of the deadline that a request may wait: what would have to wait longer is told so at once."""


EXPIRY = 0.75
"""Part of the deadline after which it is not begun: it would not be done in time."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors (N, D) float32 of a request, and what is to be said about its texts."""

    vectors: npt.NDArray[np.float32]
    tokens: int
    truncated: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A neighbour: its key, how near it is, and what is known of it: ``metadata``, and ``text`` if it has one."""

    key: str
    score: float
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Predicted:
    """Classes of N items: probabilities (N, K) of the K `classes` that the head had when it was asked."""

    classes: Sequence[str | int]
    probabilities: npt.NDArray[np.float64]

    def label(self, row: int) -> str | int:
        """The most probable class of an item."""
        return self.classes[int(self.probabilities[row].argmax())]

    def ranked(self, row: int) -> Mapping[str, float]:
        """Class to probability of an item, the most probable first."""
        order = np.argsort(-self.probabilities[row], kind="stable")
        return {str(self.classes[i]): round(float(self.probabilities[row, i]), 6) for i in order}


class Service:
    """Embeds, searches and predicts for many at a time.

    Parameters
    ----------
    places : what to open, and where; looked at again by :meth:`reload`.
    metrics : told of every batch.
    """

    def __init__(self, places: Places, metrics: Metrics) -> None:
        self.places, self.limits, self.metrics = places, places.limits, metrics
        self.opened: Opened = open_all(places)
        self._compute_thread = ThreadPoolExecutor(1, "coldpress-serve-compute")
        self._workers = ThreadPoolExecutor(cores(), "coldpress-serve")
        self._reloading = asyncio.Lock()
        self.queues = {modality: self._queue(encoder) for modality, encoder in self.opened.encoders.items()}
        self.watches = open_watches(places, self.opened, metrics)
        self._tasks: list[asyncio.Task[None]] = []
        self._tell_rows()

    async def start(self) -> None:
        """Begin to compute."""
        self._tasks = [asyncio.create_task(queue.run()) for queue in self.queues.values()]
        for watch in self.watches.values():
            watch.start()

    async def stop(self) -> None:
        """Stop computing; the server has drained before."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for watch in self.watches.values():
            await asyncio.to_thread(watch.stop)
        self._compute_thread.shutdown(wait=False, cancel_futures=True)
        self._workers.shutdown(wait=False, cancel_futures=True)

    @property
    def alive(self) -> bool:
        """Whether all that can be asked for can be computed."""
        return all(queue.alive for queue in self.queues.values()) and not any(task.done() for task in self._tasks)

    @property
    def full_for_s(self) -> float:
        """Seconds until a text or an image would be let in; 0 if it is now."""
        return min((queue.full_for_s for queue in self.queues.values()), default=0.0)

    @property
    def encoder(self) -> Encoder:
        """The one that the vectors of the index were made with."""
        return next(iter(self.opened.encoders.values()))

    @property
    def name(self) -> str:
        """What clients call the model: never the path that it lies at."""
        name = self.encoder.extractor.name
        return Path(name).name if Path(name).is_absolute() or Path(name).exists() else name

    @property
    def index(self) -> VectorIndex:
        """The index.

        Raises
        ------
        Refused
            404 if this server has none.
        """
        if self.opened.index is None:
            raise not_found("this server has no index: start it with --index")
        return self.opened.index

    @property
    def catalogue(self) -> Catalogue:
        """What is known of the items of the index; errors as of `index`."""
        _ = self.index
        assert self.opened.catalogue is not None
        return self.opened.catalogue

    @property
    def head(self) -> Head:
        """The head; errors as of `index`."""
        if self.opened.head is None:
            raise not_found("this server has no head: start it with --head")
        return self.opened.head

    def require_own(self, modality: str) -> None:
        """Refuse what the head has not learned: vectors of the other tower are comparable, not of the same making."""
        if modality != self.encoder.modality:
            raise invalid(f"the head takes {self.encoder.modality}s, got {modality}s", modality)

    async def embed(self, modality: Modality, contents: Sequence[str | bytes], field: str) -> Embedded:
        """Embed texts or the bytes of image files; `field` is where they stand in the request.

        Raises
        ------
        Refused
            For what cannot be read, is too much, or comes while too much waits.
        """
        encoder = self.opened.encoders.get(modality)
        if encoder is None:
            raise invalid(f"{self.name} takes {self.encoder.modality}s only, got {modality}s", field)
        if encoder.quick(contents):
            prepared: Prepared = encoder.prepare(contents, field)
        else:
            prepared = await self.in_thread(encoder.prepare, contents, field)
        try:
            vectors = await self.queues[modality](prepared.inputs, prepared.costs)
        except ItemFailed as error:
            raise invalid(f"cannot be embedded: {error.reason}", place_of(field, error.item, contents)) from error
        self.watches[modality].offer(vectors)
        return Embedded(vectors, prepared.tokens, prepared.truncated)

    def saw_vectors(self, vectors: npt.NDArray[np.float32]) -> None:
        """Let queries that came as vectors be watched, where it is clear what they are of."""
        if len(self.watches) == 1:
            next(iter(self.watches.values())).offer(vectors)

    async def search(self, vectors: npt.NDArray[np.float32], k: int, where: Where | None = None) -> list[list[Hit]]:
        """The neighbours of each vector, among those that meet the conditions."""
        self._check_where(where)
        return await self._search(lambda index: index.search(vectors, k, where=where))

    async def search_keys(self, keys: Sequence[str], k: int, where: Where | None = None) -> list[list[Hit]]:
        """The neighbours of items of the index, themselves left out."""

        def search(index: VectorIndex) -> tuple[Sequence[Any], Sequence[Any]]:
            found = [index.search_key(key, k, where=where) for key in keys]
            return [scores for scores, _ in found], [names for _, names in found]

        self._check_where(where)
        try:
            await self.in_thread(self.index.metadata, keys, [])
        except ColdpressError as error:
            raise not_found(str(error), "key") from error
        return await self._search(search)

    async def predict(self, vectors: npt.NDArray[np.float32]) -> Predicted:
        """The classes of vectors."""
        head = self.head
        return Predicted(head.classes, await self.in_thread(head.predict_proba, vectors))

    async def reload(self) -> None:
        """Open index and head anew; requests under way keep what they began with.

        Raises
        ------
        Refused
            429 while another reload is under way; 409 if what lies there now cannot be served: all stays as it was.
        """
        if self._reloading.locked():
            raise overloaded(1.0)
        async with self._reloading:
            try:
                self.opened = await asyncio.to_thread(reopen, self.places, self.opened)
            except ColdpressError as error:
                logger.error("reload failed, what was there before is served on: %s", error)
                self.metrics.reloads.labels("failed").inc()
                raise Refused(409, "what lies there now cannot be served; the log of the server says why") from error
        self.metrics.reloads.labels("ok").inc()
        self._tell_rows()

    async def in_thread(self, function: Callable[..., R], *arguments: Any) -> R:
        """Call a function that would hold up the event loop, in one of as many threads as there are cores."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, partial(function, *arguments))

    def _check_where(self, where: Where | None) -> None:
        known = ("key", *self.catalogue.columns)
        if unknown := next((name for name in where or () if name not in known), None):
            raise invalid(f"no column {unknown!r}, expected some of {', '.join(known)}", "where")

    async def _search(self, search: Callable[[VectorIndex], tuple[Any, Any]]) -> list[list[Hit]]:
        """Search, and look up what is known of the neighbours; the conditions may be wrong, all else was checked."""
        index, catalogue, begun = self.index, self.catalogue, time.perf_counter()

        def look_up() -> list[list[Hit]]:
            scores, keys = search(index)
            return [
                [
                    Hit(key, float(score), about)
                    for key, score, about in zip(row, numbers, catalogue.describe(row), strict=True)
                ]
                for row, numbers in zip(([str(key) for key in row] for row in keys), scores, strict=True)
            ]

        try:
            found = await self.in_thread(look_up)
        except ColdpressError as error:
            raise invalid(str(error), "where") from error
        self.metrics.search.observe(time.perf_counter() - begun)
        return found

    def _queue(self, encoder: Encoder) -> BatchQueue[ModelInput]:
        modality, budget = encoder.modality, self.places.batch_cost or encoder.batch_cost

        def count(batch: Batch) -> None:
            self.metrics.saw_batch(modality, batch)

        queue = BatchQueue(
            encoder.compute,
            self._compute_thread,
            canary=encoder.canary,
            budget=budget,
            capacity=CAPACITY_BATCHES[modality] * budget,
            patience_s=PATIENCE * self.limits.deadline_s,
            expiry_s=EXPIRY * self.limits.deadline_s,
            on_batch=count,
        )
        self.metrics.queue.labels(modality).set_function(lambda: queue.waiting)
        return queue

    def _tell_rows(self) -> None:
        self.metrics.rows.set(0 if self.opened.index is None else len(self.opened.index))
