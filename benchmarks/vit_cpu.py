"""Is ViT-B/16 on a CPU faster than in torch, ONNX Runtime and OpenVINO, in fp32, int16 and int8, and how close is it?

    python benchmarks/vit_cpu.py [--n 32] [--repeats 5]

Random weights, as no pre-trained ViT-B is at hand: the speed is that of any ViT-B/16, the cosine is that of eight bits
on noise. Images are decoded and resized beforehand; what is timed is bytes in memory to vectors, in all engines alike.
Needs the extra ``bench``.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import torch
from harness import Engine, arguments, compare, report, versus
from image_peers import (
    PROCESSOR,
    Features,
    Run,
    fidelity,
    onnxruntime_engine,
    openvino_engines,
    photos,
    torch_engines,
)
from transformers import ViTConfig, ViTModel

import coldpress

STEP = 4
"""Images a request of the peers."""
PAIRS = (
    ("coldpress int8", "OpenVINO int8, NNCF PTQ"),
    ("coldpress int16", "OpenVINO fp32"),
    ("coldpress fp32", "OpenVINO fp32"),
    ("coldpress fp32", "torch eager"),
)


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
    pixels = torch.from_numpy(images)
    features = Features(model, lambda result: result.last_hidden_state[:, 0]).eval()

    runs: dict[str, Run] = {}
    for precision in ("int8", "int16", "fp32"):
        extractor = coldpress.Extractor(directory, device="cpu", precision=precision)
        runs[f"coldpress {precision}"] = lambda e=extractor: e.embed(list(images))
    runs |= openvino_engines(features, pixels, STEP, options.threads, transformer=True)
    runs |= onnxruntime_engine(features, pixels, STEP, options.threads, directory)
    runs |= torch_engines(features, pixels, STEP, inductor=True)
    reference = runs["torch eager"]()
    engines = [Engine(name, run, fidelity(run(), reference)) for name, run in runs.items()]
    rows = compare(engines, len(images), "images/s", options.repeats)
    pairs = [versus(rows, a, b) for a, b in PAIRS]
    question = f"ViT-B/16, {len(images)} images: images per second, ratio to torch eager"
    report(question, rows, "images/s", options.json, images=len(images), versus=pairs)


if __name__ == "__main__":
    main()
