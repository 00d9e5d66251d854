"""Are ResNet-50 and MobileNetV2 on a CPU as fast as in the best of torch, ONNX Runtime and OpenVINO, fp32 and int8?

    python benchmarks/cnn_cpu.py [--n 32] [--repeats 5] [--mobilenet DIRECTORY] [--photos DIRECTORY] [--inductor]

ResNet-50 has random weights; MobileNetV2 as well, unless DIRECTORY holds real ones. What is timed is bytes in memory to
vectors, in all engines alike; peers get one image a request and a thread, torch batches of eight. Needs the extra
``bench``; ``--inductor`` a compiler, and minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np
import numpy.typing as npt
import torch
from harness import Engine, arguments, compare, machine, report, versus
from image_peers import PROCESSOR, Features, Run, fidelity, onnxruntime_engine, openvino_engines, torch_engines
from image_peers import photos as synthetic
from PIL import Image
from torch import nn
from transformers import AutoModel, MobileNetV2Config, MobileNetV2Model, ResNetConfig, ResNetModel

import coldpress

Runs = dict[str, Run]
BATCH = 8
"""Images a batch of torch; the other peers take one a request and a thread."""


def pictures(count: int, photos: Path | None) -> npt.NDArray[np.uint8]:
    """Photos, or smooth random pictures, (count, 224, 224, 3)."""
    if photos is not None:
        files = sorted(photos.iterdir())[:count]
        shrunk = [Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR) for file in files]
        return np.stack([np.asarray(image) for image in shrunk])
    return synthetic(count)


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


def measure(name: str, network: nn.Module, options: argparse.Namespace) -> dict[str, Any]:
    """Compare all engines on one network, and print the table."""
    images = pictures(options.n, options.photos)
    pixels = torch.from_numpy(images)
    features = Features(network, lambda result: result.pooler_output.flatten(1))
    directory = Path(tempfile.mkdtemp())
    network.save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))  # no resizing: what the peers get
    runs = ours(directory, list(images))
    runs |= openvino_engines(features, pixels, 1, options.threads, transformer=False)
    runs |= onnxruntime_engine(features, pixels, 1, options.threads, directory)
    runs |= torch_engines(features, pixels, BATCH, inductor=options.inductor)
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
    networks = (("MobileNetV2", mobilenet), ("ResNet-50", ResNetModel(ResNetConfig())))
    results = [measure(name, network, options) for name, network in networks]
    options.json.write_text(
        json.dumps({"machine": machine(), "images": options.n, "networks": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
