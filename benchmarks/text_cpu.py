"""Is `embed` on a CPU at least as fast as torch with texts sorted by length, and the same vectors?

    python benchmarks/text_cpu.py [--n 2000] [--repeats 5]

MiniLM in fp32 on real documentation paragraphs of mixed length, tokenisation included. Peers: the network of
transformers in torch eager, texts sorted by length and padded in batches of 32 (the usual remedy against padding), and
sentence-transformers with its defaults. `coldpress embed to a store` is the whole job: read, certify, compute, write.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np
import torch
from harness import Engine, arguments, compare, report
from sentence_transformers import SentenceTransformer
from texts import documentation_paragraphs

import coldpress
from coldpress.data import MemorySource

BATCH = 32


def eager_sorted(model: SentenceTransformer, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Embed with torch eager: sort by length, pad in batches, mean pooling, normalise."""
    tokenizer, network = model.tokenizer, model[0].model
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=256)["input_ids"]]
    order = np.argsort(lengths, kind="stable")
    out = np.empty((len(texts), 384), np.float32)
    with torch.inference_mode():
        for begin in range(0, len(texts), BATCH):
            index = order[begin : begin + BATCH]
            batch = tokenizer(
                [texts[i] for i in index], truncation=True, max_length=256, padding=True, return_tensors="pt"
            )
            mask = batch["attention_mask"].unsqueeze(-1)
            pooled = (network(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            out[index] = torch.nn.functional.normalize(pooled, dim=1).numpy()
    return out


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "text_cpu.json")
    parser.add_argument("--n", type=int, default=2000, help="texts (default 2000)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    texts = documentation_paragraphs(options.n)
    extractor = coldpress.Extractor("all-MiniLM-L6-v2", device="cpu", precision="fp32")
    upstream = SentenceTransformer(str(extractor.model.directory), device="cpu")
    reference = upstream.encode(texts, batch_size=BATCH)
    tokens = sum(len(ids) for ids in upstream.tokenizer(texts, truncation=True, max_length=256)["input_ids"])
    scratch = Path(tempfile.mkdtemp())

    def to_store() -> np.ndarray[Any, np.dtype[np.float32]]:
        shutil.rmtree(scratch / "store", ignore_errors=True)
        store = extractor.embed_to(scratch / "store", MemorySource(texts, "text"), dtype="float32")
        return np.asarray(store.embeddings)

    def fidelity(vectors: Any) -> dict[str, float]:
        return {
            "max_abs": float(np.abs(vectors - reference).max()),
            "cosine_min": float((vectors * reference).sum(1).min()),
        }

    engines = [
        Engine("coldpress engine, fp32", lambda: extractor.embed(texts), fidelity(extractor.embed(texts))),
        Engine("coldpress embed to a store, fp32", to_store),
        Engine("sentence-transformers, default", lambda: upstream.encode(texts, batch_size=BATCH)),
        Engine(
            "torch eager, sorted by length",
            lambda: eager_sorted(upstream, texts),
            fidelity(eager_sorted(upstream, texts)),
        ),
    ]
    rows = compare(engines, len(texts), "texts/s", options.repeats)
    shutil.rmtree(scratch)
    question = f"MiniLM fp32, {len(texts)} texts, {tokens} tokens: texts per second, ratio to torch eager sorted"
    report(question, rows, "texts/s", options.json, texts=len(texts), tokens=tokens)


if __name__ == "__main__":
    main()
