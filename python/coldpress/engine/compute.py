"""Model inputs to vectors: batches, device, threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from coldpress.engine.plan import batch_inputs
from coldpress.errors import ColdpressError
from coldpress.models import Backbone
from coldpress.types import Batch, Failed, ImageBatch, ImageInput, ModelInput, Output, TextBatch, TextInput

Vectors = dict[str, npt.NDArray[np.float32]]

NOT_FINITE = Failed("the vector holds NaN or infinity")


class Computer:
    """Runs a prepared backbone on its device.

    Parameters
    ----------
    backbone : frozen and prepared.
    outputs : what to take from it.
    device : where its weights are.
    threads : CPU threads while it computes; None leaves torch's own setting.
    """

    def __init__(
        self, backbone: Backbone, outputs: Sequence[Output], device: torch.device, threads: int | None = None
    ) -> None:
        if threads is not None and threads < 1:
            raise ColdpressError(f"threads is {threads}, expected at least 1")
        self.backbone, self.outputs, self.device, self.threads = backbone, tuple(outputs), device, threads

    def __call__(self, inputs: Sequence[ModelInput]) -> Vectors:
        """Return the vectors (N, D) float32 of N inputs, by output, in order."""
        parts: dict[str, list[npt.NDArray[np.float32]]] = {output.name: [] for output in self.outputs}
        with torch.inference_mode(), _torch_threads(self.threads):
            for batch in batch_inputs(inputs, self.device.type):
                for name, rows in self.backbone(collate(batch, self.device), self.outputs).items():
                    parts[name].append(rows.cpu().numpy())
        dims = {output.name: self.backbone.dim(output) for output in self.outputs}
        return {
            name: np.concatenate(rows) if rows else np.empty((0, dims[name]), np.float32)
            for name, rows in parts.items()
        }


def collate(inputs: Sequence[ModelInput], device: torch.device) -> Batch:
    """Pack inputs of one kind into a batch on `device`."""
    if isinstance(inputs[0], TextInput):
        texts = [item.ids for item in inputs if isinstance(item, TextInput)]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        ids = torch.from_numpy(np.concatenate(texts))
        return TextBatch(ids.to(device), torch.from_numpy(ends).to(device))
    pixels = np.stack([item.pixels for item in inputs if isinstance(item, ImageInput)])
    return ImageBatch(torch.from_numpy(pixels).to(device))


def finite_rows(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Say of each row whether every output of it is finite."""
    checks = [np.isfinite(rows).all(axis=1) for rows in vectors.values()]
    return np.asarray(np.logical_and.reduce(checks), dtype=np.bool_)


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
