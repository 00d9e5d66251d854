"""Convolutional networks in int8, through OpenVINO (extra ``openvino``).

Weights are quantised per output channel, the input of every convolution and linear layer per tensor, within the range
that it had on a sample of the data. These ranges are all that calibration decides, a hundred numbers or so: they travel
in the fingerprint, so that whoever goes on with a store computes the very same vectors. OpenVINO finds integer kernels
for layers between such marks. Against NNCF's post-training quantisation, on MobileNetV2 and 128 photos, 32 of them for
calibration: mean cosine 0.9982 (NNCF 0.9956), minimum 0.991 (0.967), 10-NN overlap 0.95 (0.92).
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from coldpress.errors import MissingExtra, ModelError
from coldpress.models.base import Backbone, Calibration
from coldpress.models.quantized_graph import compiled, observed, quantise, trace, weight_count
from coldpress.types import Batch, ImageBatch, Output


def installed() -> bool:
    """Whether the package is there."""
    return importlib.util.find_spec("openvino") is not None


class Calibrated(Backbone):
    """A backbone for images whose lower precision has to see some data first, and runs in OpenVINO."""

    @abstractmethod
    def traceable(self, outputs: Sequence[Output]) -> nn.Module:
        """Return a module in plain torch that maps pixels (height, width, 3) uint8 to a tensor for each output.

        It has a vector, in any shape, or of a dense output the rows (n, D) of the image.
        """

    def runnable(self) -> tuple[str, ...]:
        """Precisions whose packages are installed."""
        missing = () if installed() else self.calibrated
        return tuple(precision for precision in self.precisions if precision not in missing)

    def calibrate(self, batch: Batch, outputs: Sequence[Output]) -> Calibration:
        """Return what :meth:`quantized` needs to know about the data; raises MissingExtra without OpenVINO."""
        if not isinstance(batch, ImageBatch):
            raise ModelError("texts do not calibrate a network")
        return calibrate(self.traceable(outputs), batch.pixels)

    def quantized(self, calibration: Calibration, outputs: Sequence[Output]) -> QuantizedNetwork:
        """Return the same network in the precision that is calibrated, prepared."""
        return QuantizedNetwork(self.traceable(outputs), self, outputs, calibration)


class QuantizedNetwork(Backbone):
    """A network of fixed input size in int8: one image a request, one thread a stream.

    Parameters
    ----------
    network : maps pixels (height, width, 3) uint8 to a tensor for each of `outputs`, see :meth:`Calibrated.traceable`.
    like : what it computes in fp32; width, pooling and so on are its.
    """

    batch_parallel = padded = False
    precisions = ("fp32", "int8")
    calibrated = ("int8",)

    def __init__(self, network: nn.Module, like: Backbone, outputs: Sequence[Output], calibration: Calibration) -> None:
        super().__init__()
        self.modality, self.width, self.depth = like.modality, like.width, like.depth
        self.pooling, self.normalize, self.dense = like.pooling, like.normalize, like.dense
        self.network, self.names, self.calibration = network, [output.name for output in outputs], calibration
        self.prepared = "int8"
        self._compiled: tuple[int, Any] | None = None
        self._weight_bytes = 0

    @property
    def weight_bytes(self) -> int:
        """What the weights of its layers take; 0 until it has run once and is compiled."""
        return self._weight_bytes

    def forward(self, batch: Batch, outputs: Sequence[Output]) -> dict[str, torch.Tensor]:
        """Return each output as (B, D) float32, the rows of all images one below the other where it is dense."""
        if not isinstance(batch, ImageBatch) or [output.name for output in outputs] != self.names:
            raise ModelError(f"this network was compiled for images and {', '.join(self.names)}")
        rows: list[list[npt.NDArray[np.float32]]] = [[] for _ in batch.pixels]

        def keep(request: Any, item: int) -> None:
            found = [np.array(tensor.data) for tensor in request.output_tensors]
            rows[item] = [a if o.dense else a.reshape(1, -1) for a, o in zip(found, outputs, strict=True)]

        queue = self._queue(torch.get_num_threads(), batch.pixels[0])
        queue.set_callback(keep)
        for i, pixels in enumerate(batch.pixels):
            queue.start_async({0: pixels.numpy()}, i)
        queue.wait_all()
        return {name: torch.from_numpy(np.concatenate([row[k] for row in rows])) for k, name in enumerate(self.names)}

    def _queue(self, threads: int, example: torch.Tensor) -> Any:
        if self._compiled is None or self._compiled[0] != threads:
            import openvino

            graph = trace(self.network, example)
            self._weight_bytes = weight_count(graph)
            quantise(graph, self.calibration)
            self._compiled = threads, openvino.AsyncInferQueue(compiled(graph, threads), threads)
        return self._compiled[1]


def calibrate(network: nn.Module, pixels: torch.Tensor) -> dict[str, list[float]]:
    """Return the range of each value that int8 rounds, by name, over images (N, height, width, 3) uint8.

    Raises
    ------
    MissingExtra
        If OpenVINO is not installed.
    """
    if not installed():
        raise MissingExtra("int8 of this network", "openvino", "openvino")
    return observed(trace(network, pixels[0]), pixels)
