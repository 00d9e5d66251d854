"""What users would run images through instead, and how close to torch's fp32 vectors every engine is.

All peers get normalised floats (N, 3, height, width), prepared beforehand, and return the vectors that `features` makes
of the network's output. OpenVINO and ONNX Runtime run one stream a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Vectors = npt.NDArray[np.float32]
Run = Callable[[], Vectors]

STEP = 4
"""Images a request."""


def photos(count: int) -> npt.NDArray[np.uint8]:
    """Smooth random pictures (count, 224, 224, 3): noise at several scales."""
    draw = torch.Generator().manual_seed(0)
    scales = [torch.rand(count, 3, side, side, generator=draw) for side in (4, 16, 56, 224)]
    mixed = sum(torch.nn.functional.interpolate(s, size=224, mode="bilinear") / 2**i for i, s in enumerate(scales))
    assert isinstance(mixed, torch.Tensor)
    return (255 * (mixed / mixed.amax())).byte().permute(0, 2, 3, 1).contiguous().numpy()


class Features(nn.Module):
    """A transformers network that maps pixels (B, 3, height, width) to vectors (B, D)."""

    def __init__(self, network: nn.Module, pick: Callable[[Any], torch.Tensor]) -> None:
        super().__init__()
        self.network, self.pick = network, pick

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.pick(self.network(pixels))


def _stepwise(run: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor) -> Run:
    def all_of_them() -> Vectors:
        with torch.inference_mode():
            return torch.cat([run(pixels[i : i + STEP]) for i in range(0, len(pixels), STEP)]).numpy()

    return all_of_them


def torch_engines(features: Features, pixels: torch.Tensor, *, convolutional: bool) -> dict[str, Run]:
    """Torch compiled with frozen weights and, for convolutional networks, in channels-last order; eager last."""
    import copy

    import torch._inductor.config as inductor

    inductor.freezing = True
    engines: dict[str, Run] = {}
    last = copy.deepcopy(features).to(memory_format=torch.channels_last) if convolutional else features
    ordered = pixels.contiguous(memory_format=torch.channels_last) if convolutional else pixels
    with torch.inference_mode():
        compiled = torch.compile(last)
        compiled(ordered[:STEP])
    engines["torch inductor, frozen"] = _stepwise(compiled, ordered)
    if convolutional:
        engines["torch eager, channels-last"] = _stepwise(last, ordered)
    engines["torch eager"] = _stepwise(features, pixels)
    return engines


def openvino_engines(features: Features, pixels: torch.Tensor, threads: int, *, transformer: bool) -> dict[str, Run]:
    """OpenVINO in fp32 and, quantised by NNCF on the pixels themselves, in int8."""
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    core = ov.Core()
    graph = ov.convert_model(features, example_input=pixels[:STEP])
    graph.reshape([STEP, *pixels.shape[1:]])
    samples = [pixels[i : i + STEP].numpy() for i in range(0, len(pixels), STEP)][:10]
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    quantised = nncf.quantize(graph, nncf.Dataset(samples), model_type=kind)
    options = {
        "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
    }  # fmt: skip

    def engine(which: Any) -> Run:
        compiled = core.compile_model(which, "CPU", options)
        width = compiled.output(0).partial_shape[1].get_length()

        def run() -> Vectors:
            out = np.empty((len(pixels), width), np.float32)
            queue = ov.AsyncInferQueue(compiled, threads)

            def done(request: Any, at: int) -> None:
                out[at : at + STEP] = request.get_output_tensor(0).data

            queue.set_callback(done)
            for at in range(0, len(pixels), STEP):
                queue.start_async({0: pixels[at : at + STEP].numpy()}, at)
            queue.wait_all()
            return out

        return run

    return {"OpenVINO int8, NNCF PTQ": engine(quantised), "OpenVINO fp32": engine(graph)}


def onnxruntime_engine(features: Features, pixels: torch.Tensor, threads: int, scratch: Path) -> dict[str, Run]:
    """ONNX Runtime in fp32, its graph optimised."""
    import onnxruntime as ort

    path = scratch / "network.onnx"
    torch.onnx.export(features, (pixels[:STEP],), str(path), input_names=["pixels"], dynamo=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run() -> Vectors:
        steps = range(0, len(pixels), STEP)
        return np.concatenate([session.run(None, {"pixels": pixels[i : i + STEP].numpy()})[0] for i in steps])

    return {"ONNX Runtime fp32": run}


def fidelity(vectors: Vectors, reference: Vectors) -> dict[str, float]:
    """Cosine to the reference, row by row."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    cosine = (vectors * reference).sum(axis=1) / norms
    return {"cosine_mean": float(cosine.mean()), "cosine_min": float(cosine.min())}
