"""One device that computes batches of one shape: upload, compute and download overlap, and compute is a CUDA graph.

A batch waits in a slot: pinned memory that it is written into, a copy on the device, pinned memory for its vectors.
While one is computed, the next is uploaded and the one after that is written by the CPU. On a device without streams a
batch is computed when it is submitted, by the same steps.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from coldpress.engine.budget import Budget, fill_images, fill_texts
from coldpress.types import ImageBatch, ImageInput, ModelInput, TextBatch, TextInput

logger = logging.getLogger(__name__)

Rows = dict[str, torch.Tensor]
Forward = Callable[[TextBatch | ImageBatch], Rows]

SLOTS = 3
_capturing = threading.Lock()  # torch captures one graph at a time in a process


@dataclass
class Slot:
    """A batch under way: what it is written into, its copy on the device, and where its vectors arrive."""

    host: tuple[torch.Tensor, ...]
    staged: tuple[torch.Tensor, ...]
    made: Rows = field(default_factory=dict)
    arrived: Rows = field(default_factory=dict)
    events: tuple[Any, ...] = ()


class Lane:
    """Computes batches of one shape on one device.

    Parameters
    ----------
    forward : the network.
    finish : what becomes of its vectors; returns the same tensors or others.
    captured : whether `forward` may become a CUDA graph.
    """

    def __init__(
        self, forward: Forward, finish: Callable[[Rows], Rows], budget: Budget, device: torch.device, *, captured: bool
    ) -> None:
        self.forward, self.finish, self.budget, self.device = forward, finish, budget, device
        self.cuda, self.captured = device.type == "cuda", captured
        self._inputs = self._empty(device)
        self._free = deque(self._slot() for _ in range(SLOTS))
        self._graphs: dict[int, tuple[Any, Rows]] = {}
        if self.cuda:
            streams = [cast(Any, torch.cuda).Stream(device) for _ in range(3)]
            self._upload, self._stream, self._download = streams
            self._memory = torch.cuda.graph_pool_handle()
            self.wait()  # for weights and buffers, which other streams have written

    def run(self, batches: Iterable[tuple[list[int], Sequence[ModelInput]]]) -> Iterator[tuple[list[int], Any]]:
        """Yield the numbers of each batch again, with its vectors by output, (n, D) float32 or all rows of n items."""
        under_way: deque[tuple[list[int], Sequence[ModelInput], Slot]] = deque()
        with self._current():
            for numbers, inputs in batches:
                if not self._free:
                    yield self._collected(*under_way.popleft())
                slot = self._free.popleft()
                self._submit(slot, self._write(slot, inputs))
                under_way.append((numbers, inputs, slot))
            while under_way:
                yield self._collected(*under_way.popleft())

    def wait(self) -> None:
        """Until nothing is under way on the device."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def _current(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self.device) if self.cuda else nullcontext()

    def _empty(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        pinned, budget = self.cuda and device.type == "cpu", self.budget
        shapes = [(budget.tokens,), (budget.items + 1,)] if budget.size is None else [(budget.items, *budget.size, 3)]
        dtype = torch.int32 if budget.size is None else torch.uint8
        return tuple(torch.zeros(shape, dtype=dtype, device=device, pin_memory=pinned) for shape in shapes)

    def _slot(self) -> Slot:
        host = self._empty(torch.device("cpu"))
        if not self.cuda:
            return Slot(host, host)
        events = tuple(cast(Any, torch.cuda).Event() for _ in range(3))
        return Slot(host, self._empty(self.device), events=events)

    def _write(self, slot: Slot, inputs: Sequence[ModelInput]) -> int:
        """Write a batch into its slot; returns what no text of it is longer than."""
        arrays = [tensor.numpy() for tensor in slot.host]
        if self.budget.size is not None:
            fill_images(cast(Sequence[ImageInput], inputs), arrays[0])
            return 0
        return fill_texts([one.ids for one in cast(Sequence[TextInput], inputs)], self.budget, *arrays)

    def _submit(self, slot: Slot, longest: int) -> None:
        if not self.cuda:
            slot.arrived = self.finish(self._network(slot.staged, longest))
            return
        uploaded, computed, downloaded = slot.events
        with torch.cuda.stream(self._upload):
            _copy(slot.staged, slot.host)
            uploaded.record()
        with torch.cuda.stream(self._stream):
            uploaded.wait()
            _copy(self._inputs, slot.staged)
            made = self._replayed(longest)
            slot.made = {name: _own(rows, made[name]) for name, rows in self.finish(made).items()}
            computed.record()
        if not slot.arrived:
            slot.arrived = {n: torch.empty(r.shape, dtype=r.dtype, pin_memory=True) for n, r in slot.made.items()}
        with torch.cuda.stream(self._download):
            computed.wait()
            _copy(tuple(slot.arrived.values()), tuple(slot.made.values()))
            downloaded.record()

    def _collected(
        self, numbers: list[int], inputs: Sequence[ModelInput], slot: Slot
    ) -> tuple[list[int], dict[str, npt.NDArray[np.float32]]]:
        if self.cuda:
            slot.events[-1].synchronize()
        tokens = sum(len(one.ids) for one in inputs if isinstance(one, TextInput))
        vectors = {}
        for name, rows in slot.arrived.items():
            used = tokens if len(rows) == self.budget.tokens else len(rows) // self.budget.items * len(inputs)
            vectors[name] = rows[:used].numpy().copy()
        self._free.append(slot)
        return numbers, vectors

    def _network(self, inputs: tuple[torch.Tensor, ...], longest: int) -> Rows:
        if self.budget.size is not None:
            return self.forward(ImageBatch(inputs[0]))
        return self.forward(TextBatch(inputs[0], inputs[1], longest))

    def _replayed(self, longest: int) -> Rows:
        if self.captured and longest not in self._graphs:
            self._capture(longest)
        if not self.captured:
            return self._network(self._inputs, longest)
        graph, made = self._graphs[longest]
        graph.replay()
        return made

    def _capture(self, longest: int) -> None:
        """Record the network as a graph, once it has run: libraries open their handles and choose kernels first."""
        for _ in range(2):
            self._network(self._inputs, longest)
        graph = torch.cuda.CUDAGraph()
        recording = torch.cuda.graph(
            graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local"
        )  # other threads may do what they like
        try:
            with _capturing, recording:
                made = self._network(self._inputs, longest)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            logger.warning("this network cannot become a CUDA graph and runs op by op: %s", reason)
            self.captured = False
            return
        self._graphs[longest] = graph, made


def _copy(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source, non_blocking=True)


def _own(rows: torch.Tensor, of_graph: torch.Tensor) -> torch.Tensor:
    """Vectors that the next batch does not overwrite."""
    return rows.clone() if rows.data_ptr() == of_graph.data_ptr() else rows
