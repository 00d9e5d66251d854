"""Model inputs to vectors: batches, device, threads."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from coldpress.engine.budget import budget_of
from coldpress.engine.exactness import exact_libraries
from coldpress.engine.fleet import Fleet, halving
from coldpress.engine.plan import batch_inputs
from coldpress.engine.reduction import Reduction
from coldpress.engine.vectors import Vectors, joined
from coldpress.errors import ColdpressError
from coldpress.models import Backbone, LoadedModel
from coldpress.models.base import copy_sharing_tensors
from coldpress.models.openvino import Calibrated
from coldpress.models.workers import single_threaded_workers
from coldpress.ops import ReferenceMode
from coldpress.types import (
    Batch,
    Failed,
    ImageBatch,
    ImageInput,
    MixedBatch,
    ModelInput,
    Output,
    Ragged,
    Rows,
    TextBatch,
    TextInput,
)

T = TypeVar("T")
R = TypeVar("R")

NOT_FINITE = Failed("the vector holds NaN or infinity")


class Computer:
    """Runs the backbone of a model on a device, in one arithmetic.

    On a CPU each thread computes batches of its own, one engine per core with shared weights, as long as there are
    batches enough; else all threads share each batch. Against sharing always, MiniLM on two cores is 1.01 to 1.12 times
    as fast where nobody else uses them, and 2.9 times (the median of five and nine runs, fp32 and int8) beside other
    programs, because nobody waits for the slower thread after every op. So no machine needs a choice between the two.

    On GPUs batches have one shape, see :class:`coldpress.engine.fleet.Fleet`. What cannot have one, images that keep
    their shapes, runs image by image: slower, and the same bits in any company as well.

    Parameters
    ----------
    model : its backbone is packed for `precision` here; one that was packed for another is loaded again.
    outputs : what to take from it.
    device : where it runs.
    precision : one of the backbone's.
    threads : CPU threads while it computes; None leaves torch's own setting.
    layer_precision : another precision for some layers, by name.
    """

    def __init__(
        self,
        model: LoadedModel,
        outputs: Sequence[Output],
        device: torch.device,
        precision: str = "fp32",
        threads: int | None = None,
        layer_precision: Mapping[str, str] | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ColdpressError(f"threads is {threads}, expected at least 1")
        self.model, self.precision, self.layer_precision = model, precision, dict(layer_precision or {})
        self.outputs, self.device, self.threads = tuple(outputs), device, threads
        self.reduction = Reduction()
        self.backbone = _prepared(model, _first(device), precision, self.layer_precision, self.outputs)
        self.budget = budget_of(model.spec) if device.type == "cuda" and self.backbone.padded else None
        self._fleet: Fleet | None = None
        self._workers: ThreadPoolExecutor | None = None
        self._worker_count = 0

    def __call__(self, inputs: Sequence[ModelInput]) -> Vectors:
        """Return the vectors of N inputs, by output, in order."""
        if self.budget is None or not inputs:
            return self._map(self._computed, inputs)
        if self._fleet is None:
            devices = _devices(self.device)
            self._fleet = Fleet(self.backbone, self.outputs, self.reduction, devices, self.budget, self._alone)
        return self._fleet(inputs)

    def reduced(self, reduction: Reduction) -> Computer:
        """Return the same with reduced vectors, those of the reference included."""
        made = copy.copy(self)
        made.reduction, made._fleet = reduction, None
        return made

    def with_layers(self, names: Iterable[str], other: Computer) -> Computer:
        """Return the same with some layers of another computer of this model; it shares the weights of both."""
        mixed = copy_sharing_tensors(self.backbone)
        for name in names:
            mixed.set_submodule(name, other.backbone.get_submodule(name))
        made = copy.copy(self)
        made._fleet = None
        made.layer_precision = self.layer_precision | dict.fromkeys(names, other.precision)
        made.backbone, mixed.layer_precision = mixed, made.layer_precision
        return made

    def each(self, work: Callable[[T], R], values: Sequence[T]) -> list[R]:
        """Call `work` with each value; torch runs on one thread in each call, so that no result depends on how many."""
        with _torch_threads(self.threads):
            workers = self._pool(torch.get_num_threads())
        return list(workers.map(work, values))

    def reference(self, inputs: Sequence[ModelInput], *, merged: bool = True) -> Vectors:
        """Return what the fp32 weights give in plain torch: the yardstick of the certificate.

        With `merged` false, that of a network that merges patches keeps all of them.
        In a lower precision the weights are read again, and dropped afterwards: no more memory than loading took. An
        engine per core pays here too: 64 texts on two cores that others used too took 1.5 instead of 4.8 s.
        """
        backbone, device = self.backbone, _first(self.device)
        if self.precision != "fp32":
            backbone = _prepared(self.model, device, "fp32", {}, ())
        if not merged:
            backbone = backbone.unmerged()

        def compute(batch: Sequence[ModelInput]) -> Vectors:
            with ReferenceMode():  # holds for the thread that enters it
                return self._compute(backbone, batch)

        return self._map(compute, inputs)

    def _map(self, work: Callable[[Sequence[ModelInput]], Vectors], inputs: Sequence[ModelInput]) -> Vectors:
        """Cut inputs into batches and join what becomes of them."""
        with _torch_threads(self.threads):
            threads = torch.get_num_threads() if self.device.type == "cpu" and self.backbone.batch_parallel else 1
            batches = list(batch_inputs(inputs, self.device.type, threads))
            if self.device.type == "cuda":
                if self.backbone.modality == "image" and budget_of(self.model.spec) is None:
                    batches = [[one] for one in inputs]
                return self._join([part for batch in batches for part in halving(work, batch, self._failed)])
            shared = threads == 1 or len(batches) < threads
            return self._join(list(map(work, batches) if shared else self._pool(threads).map(work, batches)))

    def _computed(self, batch: Sequence[ModelInput]) -> Vectors:
        return self._compute(self.backbone, batch)

    def _compute(self, backbone: Backbone, batch: Sequence[ModelInput]) -> Vectors:
        with torch.inference_mode(), exact_libraries() if self.device.type == "cuda" else nullcontext():
            vectors = backbone(collate(batch, _first(self.device)), self.outputs)
            return {output.name: self._rows(output, vectors[output.name], batch) for output in self.outputs}

    def _alone(self, inputs: Sequence[ModelInput]) -> Vectors:
        return self._join([part for one in inputs for part in halving(self._computed, [one], self._failed)])

    def _failed(self, _one: ModelInput) -> Vectors:
        """What an item has that cannot be computed: nothing finite."""
        dims = self.reduction.dims({output.name: self.backbone.dim(output) for output in self.outputs})
        rows = {name: np.full((1, dim), np.nan, np.float32) for name, dim in dims.items()}
        return {o.name: Ragged(rows[o.name], np.ones(1, np.int64)) if o.dense else rows[o.name] for o in self.outputs}

    def _rows(self, output: Output, rows: torch.Tensor, batch: Sequence[ModelInput]) -> Rows:
        reduced = self.reduction(output, rows).cpu().numpy()
        if not output.dense:
            return reduced
        # of a text its tokens; images share the patches by their areas, which differ where each keeps its shape
        sizes = np.array([len(one.ids) if isinstance(one, TextInput) else one.pixels.size for one in batch], np.int64)
        return Ragged(reduced, len(rows) * sizes // max(sizes.sum(), 1))

    def _join(self, parts: Sequence[Vectors]) -> Vectors:
        if parts:
            return {output.name: joined([part[output.name] for part in parts]) for output in self.outputs}
        dims = self.reduction.dims({output.name: self.backbone.dim(output) for output in self.outputs})
        none = {name: np.empty((0, dim), np.float32) for name, dim in dims.items()}
        return {o.name: Ragged(none[o.name], np.empty(0, np.int64)) if o.dense else none[o.name] for o in self.outputs}

    def _pool(self, threads: int) -> ThreadPoolExecutor:
        if self._workers is None or self._worker_count != threads:
            if self._workers is not None:
                self._workers.shutdown(wait=False)
            self._workers, self._worker_count = single_threaded_workers(threads), threads
        return self._workers


def calibrated(model: LoadedModel, outputs: Sequence[Output], inputs: Sequence[ModelInput]) -> LoadedModel:
    """Return the model with what its lower precision needs to know about the data, from some of them."""
    cpu = torch.device("cpu")
    backbone = _prepared(model, cpu, "fp32", {}, ())
    assert isinstance(backbone, Calibrated)
    return replace(model, calibration=backbone.calibrate(collate(inputs, cpu), outputs))


def _prepared(
    model: LoadedModel,
    device: torch.device,
    precision: str,
    layer_precision: Mapping[str, str],
    outputs: Sequence[Output],
) -> Backbone:
    """Return the model's backbone packed for a precision, loaded again where it is packed for another."""
    backbone = model.backbone
    if isinstance(backbone, Calibrated) and precision in backbone.calibrated:
        if model.calibration is None:
            raise ColdpressError(
                f"{precision} of {model.name} has to see some data first: call certify(items) or embed a source"
            )
        return backbone.quantized(model.calibration, outputs)
    if backbone.prepared is not None and (backbone.prepared, backbone.layer_precision) != (precision, layer_precision):
        if model.reload is None:
            raise ColdpressError(f"{model.name} was made in memory for {backbone.prepared}; make it again")
        backbone = model.reload()
    backbone = backbone.to(device)
    backbone.prepare(precision, layer_precision)
    return backbone


def open_device(name: str) -> torch.device:
    """Return a device by name, or the best one for ``auto``.

    Raises
    ------
    ColdpressError
        If there is none of that name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise ColdpressError(f"device {name!r} is not available here; expected auto, cpu or, with a GPU, cuda")
    return device


def _devices(device: torch.device) -> list[torch.device]:
    """The GPUs behind a device: the one that it names, else all of the kind of the first, whose bits are the same."""
    if device.index is not None:
        return [device]
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [torch.device("cuda", number) for number, name in enumerate(names) if name == names[0]]


def _first(device: torch.device) -> torch.device:
    return torch.device("cuda", 0) if device.type == "cuda" and device.index is None else device


def collate(inputs: Sequence[ModelInput], device: torch.device) -> Batch:
    """Pack inputs of one kind into a batch on `device`."""
    if isinstance(inputs[0], TextInput):
        texts = [item.ids for item in inputs if isinstance(item, TextInput)]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        ids = torch.from_numpy(np.concatenate(texts))
        return TextBatch(ids.to(device), torch.from_numpy(ends).to(device), max(map(len, texts)))
    images = [item.pixels for item in inputs if isinstance(item, ImageInput)]
    if any(image.shape != images[0].shape for image in images):
        return MixedBatch(tuple(torch.from_numpy(image).to(device) for image in images))
    return ImageBatch(torch.from_numpy(np.stack(images)).to(device))


@contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
