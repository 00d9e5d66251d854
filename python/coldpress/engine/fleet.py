"""All devices that compute for one extractor, and what happens when one of them runs out of memory.

Batches have one shape and their memory is claimed when the first one runs: what fits once fits always, unless others
take memory meanwhile. Then the budget is halved for good, which is logged: from there on vectors may differ in their
last bits from those before. An item that does not even fit alone becomes NaN, and so fails by itself.
"""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from coldpress import _library
from coldpress.engine.budget import Budget, cut
from coldpress.engine.exactness import exact_libraries
from coldpress.engine.lane import Forward, Lane, Rows
from coldpress.engine.reduction import Reduction
from coldpress.engine.vectors import Vectors
from coldpress.models import Backbone
from coldpress.types import ImageBatch, ModelInput, Output, Ragged, TextBatch, TextInput

logger = logging.getLogger(__name__)

T = TypeVar("T")
_Part = tuple[list[int], dict[str, npt.NDArray[np.float32]]]


class Fleet:
    """Computes the vectors of any number of inputs in batches of one shape, on one or several equal devices.

    Parameters
    ----------
    backbone : prepared, on the first of the devices; the others get copies.
    budget : the shape of a batch.
    alone : computes inputs one after the other, where not even the smallest batch fits.
    """

    def __init__(
        self,
        backbone: Backbone,
        outputs: Sequence[Output],
        reduction: Reduction,
        devices: Sequence[torch.device],
        budget: Budget,
        alone: Callable[[Sequence[ModelInput]], Vectors],
    ) -> None:
        self.outputs, self.budget, self._alone, self._reduction = tuple(outputs), budget, alone, reduction
        self._backbones = [backbone, *(copy.deepcopy(backbone).to(device) for device in devices[1:])]
        self._devices = tuple(devices)
        self._lanes: list[Lane] = []
        self._exhausted = False
        self._threads = ThreadPoolExecutor(len(devices), "coldpress-device") if len(devices) > 1 else None

    def __call__(self, inputs: Sequence[ModelInput]) -> Vectors:
        """The vectors of at least one input, by output, in order."""
        while not self._exhausted:
            try:
                return self._computed(inputs)
            except torch.OutOfMemoryError as error:
                self._shrink(error)
        return self._alone(inputs)

    def _computed(self, inputs: Sequence[ModelInput]) -> Vectors:
        self._lanes = self._lanes or [self._lane(*pair) for pair in zip(self._backbones, self._devices, strict=True)]
        waiting = deque(cut(inputs, self.budget))

        def work(lane: Lane) -> list[_Part]:
            with torch.inference_mode(), exact_libraries():
                return list(lane.run(_taken(waiting, inputs)))

        if self._threads is None:
            parts = work(self._lanes[0])
        else:
            running = [self._threads.submit(work, lane) for lane in self._lanes]
            wait(running)  # all of them: what follows an error must not meet work under way
            parts = [part for found in running for part in found.result()]
        return {output.name: _in_order(parts, output, inputs) for output in self.outputs}

    def _lane(self, backbone: Backbone, device: torch.device) -> Lane:
        reduction = self._reduction.moved(device)

        def finish(rows: Rows) -> Rows:
            return {output.name: reduction(output, rows[output.name]) for output in self.outputs}

        kernels = _library.compiled()["_ops_cuda"] == "loaded"  # what stands in for them asks the GPU for values
        captured = backbone.captured and kernels
        return Lane(_forward(backbone, self.outputs), finish, self.budget, device, captured=captured)

    def _shrink(self, error: Exception) -> None:
        """Release everything, and go on with half of the budget."""
        for lane in self._lanes:
            lane.wait()
        self._lanes = []
        if self._devices[0].type == "cuda":
            torch.cuda.empty_cache()
        smaller, reason = self.budget.halved(), str(error).splitlines()[0]
        if smaller is None:
            self._exhausted = True
            logger.warning("not even a batch of %d fits, items are computed alone: %s", self.budget.items, reason)
            return
        logger.warning(
            "out of memory: batches of %d instead of %d from now on; vectors may differ in their last bits (%s)",
            smaller.items, self.budget.items, reason,
        )  # fmt: skip
        self.budget = smaller


def _forward(backbone: Backbone, outputs: Sequence[Output]) -> Forward:
    def forward(batch: TextBatch | ImageBatch) -> Rows:
        return backbone(batch, outputs)  # type: ignore[no-any-return]

    return forward


def _taken(waiting: deque[list[int]], inputs: Sequence[ModelInput]) -> Iterator[tuple[list[int], list[ModelInput]]]:
    """Batches that no other device has taken."""
    while True:
        try:
            numbers = waiting.popleft()
        except IndexError:
            return
        yield numbers, [inputs[number] for number in numbers]


def _in_order(parts: Sequence[_Part], output: Output, inputs: Sequence[ModelInput]) -> npt.NDArray[np.float32] | Ragged:
    """The rows of all parts of one output in the order of the inputs."""
    numbers = np.concatenate([part[0] for part in parts])
    rows = np.concatenate([part[1][output.name] for part in parts])
    place = np.empty(len(numbers), np.int64)
    place[numbers] = np.arange(len(numbers))
    if not output.dense:
        return rows[place]
    each = len(rows) // len(inputs)  # of an image
    counts = np.array([len(one.ids) if isinstance(one, TextInput) else each for one in inputs], np.int64)
    return Ragged(rows, counts[numbers])[place]


def halving(
    work: Callable[[Sequence[T]], Vectors], batch: Sequence[T], failed: Callable[[T], Vectors]
) -> Iterator[Vectors]:
    """Yield the vectors of a batch, in parts where memory lacks for all of it; `failed` says those of lone items."""
    try:
        whole = work(batch)
    except torch.OutOfMemoryError as error:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            logger.warning("an item does not fit into the memory of the device: %s", str(error).splitlines()[0])
            yield failed(batch[0])
            return
    else:
        yield whole
        return
    middle = len(batch) // 2
    yield from halving(work, batch[:middle], failed)
    yield from halving(work, batch[middle:], failed)
