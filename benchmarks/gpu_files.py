"""How fast do JPEG files become a store on a GPU machine, decoded by its cores and by the GPU, and what is the wall?

    python benchmarks/gpu_files.py [--device cuda] [--smoke]

Files of 500 x 375 pixels, about as large as ImageNet's, through a ViT-B/16 with drawn weights in bf16: the run itself,
and each of its stages by itself.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_engine import Case, image_spec, load, vit
from gpu_tools import device_name
from harness import write
from PIL import Image

from coldpress import Extractor
from coldpress.types import ImageInput

TINY = {"width": 64, "depth": 2, "heads": 2, "hidden": 128}
BASE = {"width": 768, "depth": 12, "heads": 12, "hidden": 3072}
DISTINCT = 64


def photos(directory: Path, count: int) -> None:
    """Write files with the spectrum of photos: noise at every scale. All differ, so that none is a repetition."""
    draw, encoded = np.random.default_rng(0), []
    for _ in range(min(DISTINCT, count)):
        pixels = np.zeros((375, 500, 3))
        for scale in (4, 16, 64):
            noise = draw.integers(0, 256, (375 // scale + 2, 500 // scale + 2, 3), dtype=np.uint8)
            pixels += np.asarray(Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC)) * scale**0.5
        out = BytesIO()
        Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).save(out, "JPEG", quality=92)
        encoded.append(out.getvalue())
    for i in range(count):
        file = encoded[i % len(encoded)]
        comment = b"\xff\xfe\x00\x0a" + f"{i:08d}".encode()
        (directory / f"{i:06d}.jpg").write_bytes(file[:2] + comment + file[2:])


def measure(directory: Path, device: str, decode: str, *, smoke: bool) -> dict[str, Any]:
    case = Case("ViT-B/16", vit(224, 16, TINY if smoke else BASE), image_spec(224), 0)
    extractor = Extractor(
        load(case),
        device=device,
        precision="bf16" if device.startswith("cuda") else "fp32",
        fast_decode=decode if decode.startswith("gpu") else False,
    )
    files = sorted(directory.iterdir())
    extractor.embed([str(path) for path in files[:256]])
    begin = time.perf_counter()
    prepared = extractor.prepare([str(path) for path in files[:256]])
    one_thread = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as out:
        summary = extractor.run(Path(out) / "store", directory)
    row = {
        "decode": decode,
        "rows_per_s": summary.rows_per_s,
        "rows": summary.rows,
        "failed": summary.failed,
        "bottleneck": str(summary.bottleneck),
        "one_thread_per_s": len(prepared) / one_thread,
        "stages": dict(summary.stages),
    }
    certificate = summary.certificate
    return row | ({"cosine_mean": certificate.cosine_mean, "cosine_min": certificate.cosine_min} if certificate else {})


def distance(directory: Path) -> dict[str, float]:
    """How far the pixels of the GPU's decoder are from Pillow's, in steps of 255."""
    from dataclasses import replace

    from coldpress.preprocess.image import ImagePreprocessor

    files = [path.read_bytes() for path in sorted(directory.iterdir())[:DISTINCT]]
    spec = image_spec(224)
    ours, exact = ImagePreprocessor(replace(spec, fast_decode="gpu"))(files), ImagePreprocessor(spec)(files)
    steps = [
        np.abs(a.pixels.astype(int) - b.pixels)
        for a, b in zip(ours, exact, strict=True)
        if isinstance(a, ImageInput) and isinstance(b, ImageInput)
    ]
    return {"mean": float(np.mean([s.mean() for s in steps])), "max": float(np.max([s.max() for s in steps]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true", help="few files, a tiny network")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    count = 40 if options.smoke else 30_000
    device = torch.device(options.device)
    rows, found = [], {}
    with tempfile.TemporaryDirectory() as directory:
        photos(Path(directory), count)
        size = sum(path.stat().st_size for path in Path(directory).iterdir()) / count

        def attempt(decode: str) -> float:
            try:
                rows.append(measure(Path(directory), options.device, decode, smoke=options.smoke))
            except Exception as error:
                rows.append({"decode": decode, "error": (str(error) or repr(error)).splitlines()[0]})
            return float(rows[-1].get("rows_per_s", 0))

        by_cpu, by_gpu = attempt("cpu"), attempt("gpu") if device.type == "cuda" else 0.0
        if by_cpu and by_gpu:  # both at once, each with what it can do in the same time
            attempt(f"gpu:{min(max(round(100 * by_gpu / (by_cpu + by_gpu)), 1), 99)}")
        if device.type == "cuda":
            try:
                found = distance(Path(directory))
            except Exception as error:
                found = {"error": str(error).splitlines()[0]}  # type: ignore[dict-item]
    print(
        f"# table: {count} JPEG files of {size / 1e3:.0f} KB to a store, {device_name(device)}, {os.cpu_count()} cores"
    )
    for row in rows:
        speed = f"{row['rows_per_s']:8.0f}/s" if "rows_per_s" in row else row["error"][:100]
        notes = (
            f"limited by {row['bottleneck']}, prepare {row['one_thread_per_s']:.0f}/s a thread" if "rows" in row else ""
        )
        print(f"decode {row['decode']:6s} {speed}  {notes}  target >= 10,000/s")
    print(f"pixels of the GPU's decoder against Pillow's: {found}")
    write(
        options.json, question=__doc__.splitlines()[0], device=device_name(device), rows=rows, pixels=found, bytes=size
    )


if __name__ == "__main__":
    main()
