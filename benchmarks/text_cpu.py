"""Is `embed` on a CPU faster than every engine a user would pick instead, at the same fidelity?

    python benchmarks/text_cpu.py [--n 2000] [--repeats 5] [--peers openvino onnxruntime torch]

MiniLM on real documentation paragraphs of mixed length, tokenisation included, everybody on the same threads. Peers
get their texts sorted by length; sentence-transformers runs with its defaults. `to a store` is the whole job: read,
certify, compute, write. Needs the extra ``bench``.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np
import torch
from harness import Engine, arguments, compare, report, versus
from sentence_transformers import SentenceTransformer
from text_fidelity import fidelity
from text_peers import Embed, onnxruntime_engines, openvino_engines, torch_eager
from texts import documentation_paragraphs

import coldpress
from coldpress.data import MemorySource

INT8, INT16, FP32 = "coldpress int8", "coldpress int16", "coldpress fp32"
DEFAULT = "sentence-transformers, default"
PAIRS = (
    (INT8, "OpenVINO int8, NNCF PTQ"),
    (INT8, "ONNX Runtime int8, dynamic"),
    (INT16, "OpenVINO fp32"),
    (FP32, "OpenVINO fp32"),
    (FP32, DEFAULT),
    ("coldpress int8, to a store", INT8),
)


def to_store(extractor: coldpress.Extractor, texts: list[str], scratch: Path) -> None:
    shutil.rmtree(scratch / "store", ignore_errors=True)
    extractor.run(scratch / "store", MemorySource(texts, "text"))


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "text_cpu.json")
    parser.add_argument("--n", type=int, default=2000, help="texts (default 2000)")
    parser.add_argument("--peers", nargs="*", default=["openvino", "onnxruntime", "torch"], help="which to run")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    texts = documentation_paragraphs(options.n + 240)
    calibration, texts = texts[options.n :], texts[: options.n]
    ours = {
        name: coldpress.Extractor("all-MiniLM-L6-v2", device="cpu", precision=name.split()[-1])
        for name in (INT8, INT16, FP32)
    }
    upstream = SentenceTransformer(str(ours[FP32].model.directory), device="cpu")
    embeds: dict[str, Embed] = {name: extractor.embed for name, extractor in ours.items()}
    if "openvino" in options.peers:
        embeds |= openvino_engines(upstream, options.threads, calibration)
    if "onnxruntime" in options.peers:
        embeds |= onnxruntime_engines(upstream, options.threads)
    if "torch" in options.peers:
        embeds |= {"torch eager, sorted by length": torch_eager(upstream)}
        embeds |= {DEFAULT: lambda texts: upstream.encode(texts, batch_size=32)}
    reference = np.asarray(upstream.encode(texts, batch_size=32))
    tokens = sum(len(ids) for ids in upstream.tokenizer(texts, truncation=True, max_length=256)["input_ids"])
    scratch = Path(tempfile.mkdtemp())
    engines = [Engine(f"{INT8}, to a store", lambda: to_store(ours[INT8], texts, scratch))]
    engines += [Engine(name, lambda e=e: e(texts), fidelity(e, texts, reference)) for name, e in embeds.items()]
    rows = compare(engines, len(texts), "texts/s", options.repeats)
    shutil.rmtree(scratch)
    names = {row["engine"] for row in rows}
    pairs = [versus(rows, a, b) for a, b in PAIRS if {a, b} <= names]
    question = f"MiniLM, {len(texts)} texts, {tokens} tokens: texts per second, ratio to {rows[-1]['engine']}"
    report(question, rows, "texts/s", options.json, texts=len(texts), tokens=tokens, versus=pairs)


if __name__ == "__main__":
    main()
