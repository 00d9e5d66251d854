"""What users would run images through instead, and how close to torch's fp32 vectors every engine is.

All engines get the same bytes, (N, height, width, 3), and the graphs of the peers begin with rescaling and normalising,
where their compilers can fuse it; they return the vectors that `features` makes of the network's output. OpenVINO and
ONNX Runtime run one stream a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Vectors = npt.NDArray[np.float32]
Run = Callable[[], Vectors]

PROCESSOR = {
    "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
}  # fmt: skip
"""What `Features` does to pixels, as a file of a model says it."""


def photos(count: int) -> npt.NDArray[np.uint8]:
    """Smooth random pictures (count, 224, 224, 3): noise at several scales."""
    draw = torch.Generator().manual_seed(0)
    scales = [torch.rand(count, 3, side, side, generator=draw) for side in (4, 16, 56, 224)]
    mixed = sum(torch.nn.functional.interpolate(s, size=224, mode="bilinear") / 2**i for i, s in enumerate(scales))
    assert isinstance(mixed, torch.Tensor)
    return (255 * (mixed / mixed.amax())).byte().permute(0, 2, 3, 1).contiguous().numpy()


class Features(nn.Module):
    """A transformers network that maps pixels (B, height, width, 3) uint8 to vectors (B, D); mean and deviation .5."""

    def __init__(self, network: nn.Module, pick: Callable[[Any], torch.Tensor]) -> None:
        super().__init__()
        self.network, self.pick = network.eval().requires_grad_(requires_grad=False), pick

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.pick(self.network(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1))


def torch_engines(features: Features, images: torch.Tensor, step: int, *, inductor: bool) -> dict[str, Run]:
    """Torch eager last, before it the same in channels-last order and compiled with frozen weights; `step` a batch."""
    import copy

    from torch._inductor import config

    def batches(which: nn.Module) -> Run:
        def run() -> Vectors:
            with torch.inference_mode():
                return torch.cat([which(part) for part in images.split(step)]).numpy()

        return run

    engines: dict[str, Run] = {}
    last = copy.deepcopy(features).to(memory_format=torch.channels_last)
    if inductor:
        config.freezing = True
        engines["torch inductor, frozen"] = batches(torch.compile(last))
    engines["torch eager, channels-last"] = batches(last)
    return engines | {"torch eager": batches(features)}


def openvino_engines(
    features: Features, images: torch.Tensor, step: int, threads: int, *, transformer: bool
) -> dict[str, Run]:
    """OpenVINO in fp32 and, quantised by NNCF on some of the images themselves, in int8; `step` images a request."""
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    core = ov.Core()
    graph = ov.convert_model(features, example_input=images[:step])
    graph.reshape([step, *images.shape[1:]])
    requests = [part.numpy() for part in images.split(step)]
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    quantised = nncf.quantize(graph, nncf.Dataset(requests[::2][:16]), model_type=kind)
    options = {
        "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
    }  # fmt: skip

    def engine(which: Any) -> Run:
        queue = ov.AsyncInferQueue(core.compile_model(which, "CPU", options), threads)

        def run() -> Vectors:
            rows: list[Vectors] = [np.empty(0, np.float32)] * len(requests)
            queue.set_callback(lambda request, at: rows.__setitem__(at, request.get_output_tensor(0).data.copy()))
            for at, part in enumerate(requests):
                queue.start_async({0: part}, at)
            queue.wait_all()
            return np.concatenate(rows)

        return run

    return {"OpenVINO int8, NNCF PTQ": engine(quantised), "OpenVINO fp32": engine(graph)}


def onnxruntime_engine(
    features: Features, images: torch.Tensor, step: int, threads: int, scratch: Path
) -> dict[str, Run]:
    """ONNX Runtime in fp32, its graph optimised; `step` images a request."""
    import onnxruntime as ort

    path = scratch / "network.onnx"
    torch.onnx.export(features, (images[:step],), str(path), input_names=["pixels"], dynamo=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    pool, requests = ThreadPoolExecutor(threads), [part.numpy() for part in images.split(step)]
    return {
        "ONNX Runtime fp32": lambda: np.concatenate(
            [*pool.map(lambda part: session.run(None, {"pixels": part})[0], requests)]
        )
    }


def fidelity(vectors: Vectors, reference: Vectors) -> dict[str, float]:
    """Cosine to the reference, row by row."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    cosine = (vectors * reference).sum(axis=1) / norms
    return {"cosine_mean": float(cosine.mean()), "cosine_min": float(cosine.min())}
