"""What does merging patches gain on a CPU, and how far does it move the vectors?

    python benchmarks/token_merging.py [--n 16] [--repeats 5]
    python benchmarks/token_merging.py --model DIRECTORY --data PHOTOS --n 300

Without arguments a ViT-B/16 with random weights: the speed is that of any ViT-B/16, the cosine says nothing about
trained ones. With a model and photos, decoding is timed too, and cosine and neighbours are those of this model.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Engine, arguments, compare, report, versus
from image_peers import fidelity, photos
from vit_cpu import PROCESSOR

import coldpress
from coldpress.engine.certificate import neighbour_overlap

MERGED = (13, 8, 4, 0)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "token_merging.json")
    parser.add_argument("--n", type=int, default=16, help="images (default 16)")
    parser.add_argument("--model", type=Path, help="directory of a vision transformer (default: a ViT-B/16 is drawn)")
    parser.add_argument("--data", type=Path, help="directory of photos")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = options.model or random_vit()
    items: list[Any] = sorted(options.data.rglob("*.*"))[: options.n] if options.data else list(photos(options.n))
    reference = coldpress.Extractor(model, device="cpu", precision="fp32").embed(items)
    engines = []
    for precision in ("int8", "fp32"):
        for merged in MERGED:
            extractor = coldpress.Extractor(model, device="cpu", precision=precision, merge_tokens=merged)
            vectors = extractor.embed(items)
            overlap = neighbour_overlap(vectors.astype(np.float64), reference.astype(np.float64), 10)
            extra = {**fidelity(vectors, reference), "neighbours": overlap}
            engines.append(Engine(f"{precision}, {merged} merged", lambda e=extractor: e.embed(items), extra))
    rows = compare(engines, len(items), "images/s", options.repeats)
    pairs = [versus(rows, f"{p}, {r} merged", f"{p}, 0 merged") for p in ("int8", "fp32") for r in MERGED[:-1]]
    name = options.model.name if options.model else "ViT-B/16, random weights"
    report(f"{name}, {len(items)} images, patches merged in each block", rows, "images/s", options.json, versus=pairs)


def random_vit() -> Path:
    """A ViT-B/16 in the layout of Hugging Face."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    directory = Path(tempfile.mkdtemp())
    ViTModel(ViTConfig(), add_pooling_layer=False).save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return directory


if __name__ == "__main__":
    main()
