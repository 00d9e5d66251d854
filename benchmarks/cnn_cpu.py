"""Are ResNet-50 and MobileNetV2 on a CPU as fast as in the best of torch, ONNX Runtime and OpenVINO, fp32 and int8?

    python benchmarks/cnn_cpu.py [--n 32] [--repeats 5] [--mobilenet DIRECTORY] [--photos DIRECTORY] [--inductor]

ResNet-50 has random weights; MobileNetV2 as well, unless DIRECTORY holds real ones. What is timed is bytes in memory to
vectors; peers get normalised floats, one image a request and a thread, and torch batches of eight as well. Needs the
extra ``bench``; ``--inductor`` a compiler, and minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np
import numpy.typing as npt
import torch
from harness import Engine, arguments, compare, machine, report, versus
from PIL import Image
from torch import nn
from transformers import AutoModel, MobileNetV2Config, MobileNetV2Model, ResNetConfig, ResNetModel

import coldpress

Vectors = npt.NDArray[np.float32]
Runs = dict[str, Callable[[], Vectors]]
PROCESSOR = {
    "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
}  # fmt: skip
BATCH = 8


class Pooled(nn.Module):
    """Pixels (B, 3, 224, 224) to vectors (B, D), what all peers get."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(requires_grad=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.network(pixels).pooler_output
        return pooled.flatten(1)


def pictures(count: int, photos: Path | None) -> npt.NDArray[np.uint8]:
    """Photos, or smooth random pictures, (count, 224, 224, 3)."""
    if photos is not None:
        files = sorted(photos.iterdir())[:count]
        shrunk = [Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR) for file in files]
        return np.stack([np.asarray(image) for image in shrunk])
    draw = torch.Generator().manual_seed(0)
    scales = [torch.rand(count, 3, side, side, generator=draw) for side in (4, 16, 56, 224)]
    mixed = sum(nn.functional.interpolate(s, size=224, mode="bilinear") / 2**i for i, s in enumerate(scales))
    assert isinstance(mixed, torch.Tensor)
    return (255 * (mixed / mixed.amax())).byte().permute(0, 2, 3, 1).contiguous().numpy()


def torch_engines(model: Pooled, pixels: torch.Tensor, options: argparse.Namespace) -> Runs:
    def batches(which: nn.Module, values: torch.Tensor, size: int = BATCH) -> Callable[[], Vectors]:
        def run() -> Vectors:
            with torch.no_grad():
                return torch.cat([which(part) for part in values.split(size)]).numpy()

        return run

    last = torch.channels_last
    runs = {"torch channels-last": batches(model.to(memory_format=last), pixels.contiguous(memory_format=last))}
    if options.inductor:
        from torch._inductor import config

        config.freezing = True
        runs["inductor, freezing"] = batches(torch.compile(model), pixels)
    return runs | {"torch eager": batches(model, pixels)}


def onnx_engine(model: Pooled, pixels: torch.Tensor, options: argparse.Namespace) -> Runs:
    import onnxruntime

    path = Path(tempfile.mkdtemp()) / "model.onnx"
    torch.onnx.export(model, (pixels[:1],), path, dynamo=False, input_names=["pixels"])
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    pool, items = ThreadPoolExecutor(options.threads), [part.numpy() for part in pixels.split(1)]
    return {
        "ONNX Runtime fp32": lambda: np.concatenate([*pool.map(lambda x: session.run(None, {"pixels": x})[0], items)])
    }


def openvino_engines(model: Pooled, pixels: torch.Tensor, options: argparse.Namespace) -> Runs:
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    graph = ov.convert_model(model, example_input=pixels[:1])
    graph.reshape([1, 3, 224, 224])
    items = [part.numpy() for part in pixels.split(1)]
    quantised = nncf.quantize(graph, nncf.Dataset(items[::2][:16]))
    settings = {
        "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": options.threads,
        "INFERENCE_NUM_THREADS": options.threads,
    }  # fmt: skip

    def engine(which: Any) -> Callable[[], Vectors]:
        queue = ov.AsyncInferQueue(ov.Core().compile_model(which, "CPU", settings), options.threads)

        def run() -> Vectors:
            rows: list[Vectors] = [np.empty(0, np.float32)] * len(items)
            queue.set_callback(lambda request, at: rows.__setitem__(at, request.get_output_tensor(0).data.copy()))
            for at, item in enumerate(items):
                queue.start_async({0: item}, at)
            queue.wait_all()
            return np.concatenate(rows)

        return run

    return {"OpenVINO fp32": engine(graph), "OpenVINO int8, NNCF PTQ": engine(quantised)}


def ours(directory: Path, images: list[Any]) -> Runs:
    runs: Runs = {}
    for precision in ("int8", "int16", "fp32"):
        try:
            extractor = coldpress.Extractor(directory, device="cpu", precision=precision)
        except coldpress.ColdpressError:
            continue  # not a mode of this network
        extractor.certify(images)
        runs[f"coldpress {precision}"] = lambda e=extractor: e.embed(images)
    return runs


def fidelity(vectors: Vectors, reference: Vectors) -> dict[str, float]:
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    cosine = (vectors * reference).sum(axis=1) / norms
    return {"cosine_mean": float(cosine.mean()), "cosine_min": float(cosine.min())}


def measure(name: str, network: nn.Module, directory: Path | None, options: argparse.Namespace) -> dict[str, Any]:
    """Compare all engines on one network, and print the table."""
    images = pictures(options.n, options.photos)
    pixels = ((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).contiguous()
    model = Pooled(network)
    if directory is None:
        directory = Path(tempfile.mkdtemp())
        network.save_pretrained(directory)
        (directory / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    runs = ours(directory, list(images)) | openvino_engines(model, pixels, options)
    runs |= onnx_engine(model, pixels, options) | torch_engines(model, pixels, options)
    reference = runs["torch eager"]()
    engines = [Engine(label, run, fidelity(run(), reference)) for label, run in runs.items()]
    rows = compare(engines, len(images), "images/s", options.repeats)
    peers = [row for row in rows if not row["engine"].startswith("coldpress")]
    exact = max((row for row in peers if "int8" not in row["engine"]), key=lambda row: row["images/s"])
    pairs = [versus(rows, "coldpress fp32", exact["engine"])]
    if "coldpress int8" in runs:
        pairs.append(versus(rows, "coldpress int8", "OpenVINO int8, NNCF PTQ"))
    question = f"{name}, {len(images)} images: images per second, ratio to torch eager"
    report(question, rows, "images/s", None, versus=pairs)
    return {"network": name, "question": question, "versus": pairs, "rows": rows}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "cnn_cpu.json")
    parser.add_argument("--n", type=int, default=32, help="images (default 32)")
    parser.add_argument("--photos", type=Path, help="directory of photos instead of random pictures")
    parser.add_argument("--mobilenet", type=Path, help="directory of real MobileNetV2 weights")
    parser.add_argument("--inductor", action="store_true", help="also torch.compile with freezing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    small = options.mobilenet
    mobilenet = AutoModel.from_pretrained(small) if small else MobileNetV2Model(MobileNetV2Config())
    networks = (("MobileNetV2", mobilenet, small), ("ResNet-50", ResNetModel(ResNetConfig()), None))
    results = [measure(name, network, directory, options) for name, network, directory in networks]
    options.json.write_text(
        json.dumps({"machine": machine(), "images": options.n, "networks": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
