"""What does a run cost when most of the data is known already?

    python benchmarks/incremental.py [--files 20000] [--new 1000]

Generated JPEG files and MobileNetV1 0.25 (its real weights where ../shared has them, else a network of one layer), each
step a run of its own on the same folder: all files, nothing new, a twentieth more, and all of them into another store
that reuses the first by content.
"""

from __future__ import annotations

import json
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import arguments, machine
from PIL import Image

from coldpress import Extractor, ImageSpec, from_module

MODEL = Path(__file__).parents[2] / "shared/data/models/mobilenet_v1_0.25_128_imagenet"


def open_extractor() -> Extractor:
    if MODEL.is_dir():
        return Extractor(MODEL, device="cpu")
    spec = ImageSpec(("exact", 128, 128), None, "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3)
    return Extractor(from_module(torch.nn.AvgPool2d(16), spec, name="pooling"), device="cpu")


def write_photos(folder: Path, begin: int, end: int) -> None:
    """Photos of 200 x 160, each with a number of its own in a comment."""
    buffer = BytesIO()
    blocks = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(np.kron(blocks, np.ones((10, 10, 1), np.uint8))).save(buffer, "JPEG")
    base = buffer.getvalue()
    folder.mkdir(exist_ok=True)
    for i in range(begin, end):
        # New files sort between the old ones, as they do in a folder that grows.
        name = f"{i * 7919 % 1_000_003:07d}.jpg"
        (folder / name).write_bytes(base[:2] + b"\xff\xfe\x00\x0b" + b"%09d" % i + base[2:])


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "incremental.json")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--new", type=int, default=1_000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    extractor, rows = open_extractor(), []

    def step(what: str, out: Path, **more: Any) -> None:
        summary = extractor.run(out, folder, **more)
        counts = {name: getattr(summary, name) for name in ("inputs", "processed", "computed", "reused", "duplicates")}
        rows.append({"step": what, "seconds": round(summary.seconds, 2), **counts})
        print(rows[-1], flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        write_photos(folder, 0, options.files)
        step("all files", Path(scratch) / "store")
        step("nothing new", Path(scratch) / "store")
        write_photos(folder, options.files, options.files + options.new)
        step("some new files", Path(scratch) / "store")
        step("all into another store, reusing the first", Path(scratch) / "other", reuse=Path(scratch) / "store")
    question = f"{options.files} files, then {options.new} more, with {extractor.name.rsplit('/', 1)[-1]}"
    options.json.write_text(json.dumps({"question": question, "machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
