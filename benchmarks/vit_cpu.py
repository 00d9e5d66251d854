"""Is ViT-B/16 on a CPU faster than in torch and OpenVINO, in fp32 and int8, and how close is int8?

    python benchmarks/vit_cpu.py [--n 32] [--repeats 5]

Random weights, as no pre-trained ViT-B is at hand: the speed is that of any ViT-B/16, the cosine is that of eight bits
on noise. Pixels are decoded and resized beforehand; what is timed is bytes in memory to vectors. Peers get normalised
floats. Needs the extra ``bench``.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np
import numpy.typing as npt
import torch
from harness import Engine, arguments, compare, report, versus
from transformers import ViTConfig, ViTModel

import coldpress

Vectors = npt.NDArray[np.float32]
PROCESSOR = {
    "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
STEP = 4
PAIRS = (
    ("coldpress int8", "OpenVINO int8, NNCF PTQ"),
    ("coldpress fp32", "OpenVINO fp32"),
    ("coldpress fp32", "torch eager"),
)


def photos(count: int) -> npt.NDArray[np.uint8]:
    """Smooth random pictures (count, 224, 224, 3): noise at several scales."""
    draw = torch.Generator().manual_seed(0)
    scales = [torch.rand(count, 3, side, side, generator=draw) for side in (4, 16, 56, 224)]
    mixed = sum(torch.nn.functional.interpolate(s, size=224, mode="bilinear") / 2**i for i, s in enumerate(scales))
    assert isinstance(mixed, torch.Tensor)
    return (255 * (mixed / mixed.amax())).byte().permute(0, 2, 3, 1).contiguous().numpy()


def openvino_engines(model: ViTModel, pixels: torch.Tensor, threads: int) -> dict[str, Callable[[], Vectors]]:
    """OpenVINO in fp32 and int8, one stream a thread, four images a request."""
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    core = ov.Core()
    graph = ov.convert_model(model, example_input=pixels[:STEP])
    graph.reshape([STEP, 3, 224, 224])
    samples = [pixels[i : i + STEP].numpy() for i in range(0, len(pixels), STEP)][:10]
    quantised = nncf.quantize(graph, nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER)
    options = {
        "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
    }  # fmt: skip

    def engine(which: Any) -> Callable[[], Vectors]:
        compiled = core.compile_model(which, "CPU", options)

        def run() -> Vectors:
            out = np.empty((len(pixels), 768), np.float32)
            queue = ov.AsyncInferQueue(compiled, threads)

            def done(request: Any, at: int) -> None:
                out[at : at + STEP] = request.get_output_tensor(0).data[:, 0]

            queue.set_callback(done)
            for at in range(0, len(pixels), STEP):
                queue.start_async({0: pixels[at : at + STEP].numpy()}, at)
            queue.wait_all()
            return out

        return run

    return {"OpenVINO fp32": engine(graph), "OpenVINO int8, NNCF PTQ": engine(quantised)}


def fidelity(vectors: Vectors, reference: Vectors) -> dict[str, float]:
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    cosine = (vectors * reference).sum(axis=1) / norms
    return {"cosine_mean": float(cosine.mean()), "cosine_min": float(cosine.min())}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "vit_cpu.json")
    parser.add_argument("--n", type=int, default=32, help="images, a multiple of 4 (default 32)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = ViTModel(ViTConfig(), add_pooling_layer=False).eval()
    directory = Path(tempfile.mkdtemp())
    model.save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    images = photos(options.n)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5

    def eager() -> Vectors:
        with torch.inference_mode():
            steps = [model(pixels[i : i + STEP]).last_hidden_state[:, 0] for i in range(0, len(pixels), STEP)]
        return torch.cat(steps).numpy()

    runs: dict[str, Callable[[], Vectors]] = {}
    for precision in ("int8", "fp32"):
        extractor = coldpress.Extractor(directory, device="cpu", precision=precision)
        runs[f"coldpress {precision}"] = lambda e=extractor: e.embed(list(images))
    runs |= openvino_engines(model, pixels.contiguous(), options.threads) | {"torch eager": eager}
    reference = eager()
    engines = [Engine(name, run, fidelity(run(), reference)) for name, run in runs.items()]
    rows = compare(engines, len(images), "images/s", options.repeats)
    pairs = [versus(rows, a, b) for a, b in PAIRS]
    question = f"ViT-B/16, {len(images)} images: images per second, ratio to torch eager"
    report(question, rows, "images/s", options.json, images=len(images), versus=pairs)


if __name__ == "__main__":
    main()
