"""Are ResNet-50 and MobileNetV2 on a CPU faster than in torch, ONNX Runtime and OpenVINO, at the same fidelity?

    python benchmarks/cnn_cpu.py [--n 64] [--repeats 5] [--mobilenet DIRECTORY]

Random weights unless DIRECTORY holds those of a MobileNetV2, its batch normalisations calibrated on the images so that
activations stay in range: the speed is that of any such network. Pixels are decoded and resized beforehand; what is
timed is bytes in memory to vectors. Needs the extra ``bench``.
"""

from __future__ import annotations

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

import torch
from harness import Engine, arguments, compare, report, versus, write
from image_peers import Features, Run, fidelity, onnxruntime_engine, openvino_engines, photos, torch_engines
from torch import nn
from transformers import MobileNetV2Config, MobileNetV2Model, ResNetConfig, ResNetModel

import coldpress

PROCESSOR = {
    "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
PEERS_FP32 = ("OpenVINO fp32", "ONNX Runtime fp32", "torch inductor, frozen", "torch eager, channels-last")
PAIRS = (("coldpress int8", "OpenVINO int8, NNCF PTQ"), *(("coldpress fp32", peer) for peer in PEERS_FP32))


def calibrated(model: nn.Module, pixels: torch.Tensor) -> nn.Module:
    """Let batch normalisation see the images, as training would have."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain average
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(pixels)
    return model.eval()


def networks(pixels: torch.Tensor, mobilenet: Path | None) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    found = {"ResNet-50": calibrated(ResNetModel(ResNetConfig()), pixels)}
    if mobilenet is None:
        return found | {"MobileNetV2": calibrated(MobileNetV2Model(MobileNetV2Config(tf_padding=True)), pixels)}
    return found | {"MobileNetV2": MobileNetV2Model.from_pretrained(mobilenet).eval()}


def measure(name: str, model: nn.Module, images: Any, pixels: torch.Tensor, options: Any) -> dict[str, Any]:
    directory = Path(tempfile.mkdtemp())
    model.save_pretrained(directory)  # type: ignore[operator]
    (directory / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    features = Features(model, lambda result: result.pooler_output.flatten(1)).eval()
    runs: dict[str, Run] = {}
    for precision in ("int8", "fp32"):
        try:
            extractor = coldpress.Extractor(directory, device="cpu", precision=precision)
        except coldpress.ColdpressError as error:
            print(f"{name}: {error}")
            continue
        runs[f"coldpress {precision}"] = lambda e=extractor: e.embed(list(images))
    runs |= openvino_engines(features, pixels, options.threads, transformer=False)
    runs |= onnxruntime_engine(features, pixels, options.threads, directory)
    runs |= torch_engines(features, pixels, convolutional=True)
    reference = runs["torch eager"]()
    engines = [Engine(engine, run, fidelity(run(), reference)) for engine, run in runs.items()]
    rows = compare(engines, len(images), "images/s", options.repeats)
    pairs = [versus(rows, a, b) for a, b in PAIRS if {a, b} <= runs.keys()]
    question = f"{name}, {len(images)} images: images per second, ratio to torch eager"
    report(question, rows, "images/s", None, versus=pairs)
    return {"network": name, "rows": rows, "versus": pairs}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "cnn_cpu.json")
    parser.add_argument("--n", type=int, default=64, help="images, a multiple of 4 (default 64)")
    parser.add_argument("--mobilenet", type=Path, help="directory of a pre-trained MobileNetV2")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = photos(options.n)
    pixels = ((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).contiguous()
    found = networks(pixels, options.mobilenet)
    results = [measure(name, model, images, pixels, options) for name, model in found.items()]
    write(options.json, images=len(images), networks=results)


if __name__ == "__main__":
    main()
