"""What does a second backbone cost beside the first: two of them with three layers each from one pass over photos?

    python benchmarks/passes.py [--n 160] [--repeats 5] [--precision fp32] [--photos DIRECTORY] [--model DIRECTORY ...]

A pass reads, decodes, computes and writes stores; compute alone is given pixels. One pass for both networks is set
against their compute alone, added up, and against a pass for each. What is timed is a run that goes on behind its first
shard, so that the certificate, which a store gets once whatever its size, is in none of them. By default ViT-S/16 and
DINOv2-S/14 with random weights.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import torch
from harness import arguments, machine, write
from transformers import Dinov2Config, Dinov2Model, PreTrainedModel, ViTConfig, ViTModel

import coldpress
from coldpress.bench.photos import write_photos

CHUNK = 32
"""Photos that a run computes at a time, and in each shard here."""

OUTPUTS = "layer:4,layer:8,layer:12"
SIZES = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
HALF = [0.5, 0.5, 0.5]
VALUES = {
    "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": HALF,
    "image_std": HALF,
}  # fmt: skip
WHOLE = {"size": {"height": 224, "width": 224}, "resample": 2}
CENTRE = {
    "size": {"shortest_edge": 256}, "resample": 3, "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
}  # fmt: skip


def networks() -> dict[str, tuple[PreTrainedModel, dict[str, Any]]]:
    """Two networks and what their processors do."""
    torch.manual_seed(0)
    vit = ViTModel(ViTConfig(intermediate_size=1536, **SIZES), add_pooling_layer=False)
    return {"vit-small": (vit, WHOLE), "dinov2-small": (Dinov2Model(Dinov2Config(patch_size=14, **SIZES)), CENTRE)}


def load(directory: Path, options: Any) -> list[coldpress.Extractor]:
    """Both networks, from a directory as a user would."""
    for name, (network, processor) in networks().items() if not options.model else ():
        network.eval().save_pretrained(directory / name)
        (directory / name / "preprocessor_config.json").write_text(json.dumps(VALUES | processor))
    places = options.model or [directory / name for name in networks()]
    choices = {"device": "cpu", "precision": options.precision, "output": OUTPUTS, "threads": options.threads}
    return [coldpress.Extractor(place, **choices) for place in places]


def rounds(both: list[coldpress.Extractor], photos: list[str], work: Path, repeats: int) -> list[dict[str, float]]:
    """Seconds of each way to do the work, in turn; the first round warms up."""
    rest = [photos[i : i + CHUNK] for i in range(CHUNK, len(photos), CHUNK)]
    inputs = [[e._preprocess(part) for part in rest] for e in both]
    coldpress.embed_together(both, work / "begun", photos, shard_rows=CHUNK, should_stop=lambda: True)

    def compute(_: Path) -> None:
        for extractor, chunks in zip(both, inputs, strict=True):
            for chunk in chunks:
                extractor._compute(chunk)

    def together(out: Path) -> None:
        coldpress.embed_together(both, out, photos, shard_rows=CHUNK)

    def apart(out: Path) -> None:
        for extractor in both:
            extractor.run(out / Path(extractor.name).name, photos, shard_rows=CHUNK)

    def timed(run: Callable[[Path], None]) -> float:
        out = shutil.copytree(work / "begun", work / "out")
        begin = time.perf_counter()
        run(out)
        seconds = time.perf_counter() - begin
        shutil.rmtree(out)
        return seconds

    ways = {"compute": compute, "together": together, "apart": apart, "compute_again": compute}
    return [{name: timed(way) for name, way in ways.items()} for _ in range(repeats + 1)][1:]


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "passes.json")
    parser.add_argument("--n", type=int, default=160, help="photos (default 160)")
    parser.add_argument("--precision", default="fp32", help="of both networks (default fp32)")
    parser.add_argument("--photos", type=Path, help="a directory of them (default: made-up ones of 0.2 megapixels)")
    parser.add_argument("--model", type=Path, action="append", help="a directory of one; give it twice")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if options.photos is None:
            (work / "photos").mkdir()
            write_photos(work / "photos", options.n)
        photos = sorted(str(path) for path in (options.photos or work / "photos").iterdir())[: options.n]
        both = load(work, options)
        names = [Path(extractor.name).name for extractor in both]
        seconds = rounds(both, photos, work, options.repeats)
    alone = [(one["compute"] + one["compute_again"]) / 2 for one in seconds]
    shares = {
        "one pass / compute alone": [one["together"] / base for one, base in zip(seconds, alone, strict=True)],
        "two passes / compute alone": [one["apart"] / base for one, base in zip(seconds, alone, strict=True)],
        "two passes / one pass": [one["apart"] / one["together"] for one in seconds],
    }
    ratios = {n: {"median": statistics.median(v), "low": min(v), "high": max(v)} for n, v in shares.items()}
    facts = machine()
    print(f"{' + '.join(names)}, {len(photos)} photos, {options.precision}")
    print(f"{facts['cpu']}, {facts['threads']} threads, {facts['isa']}")
    for what, ratio in ratios.items():
        print(f"{what:28s} {ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]")
    context = {"photos": len(photos), "precision": options.precision, "networks": names, "outputs": OUTPUTS}
    write(options.json, question=__doc__.splitlines()[0], **context, ratios=ratios, seconds=seconds)


if __name__ == "__main__":
    main()
