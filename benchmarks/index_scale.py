"""Does an index of millions stay within its forecast and its budget, and how fast is it beside others?

    pip install --target USEARCH_DIRECTORY usearch
    PYTHONPATH=USEARCH_DIRECTORY python benchmarks/index_scale.py --rows 5000000 --memory 4 --peer-rows 500000

Vectors are synthetic, clustered, and as hard as those of a sentence encoder: their local intrinsic dimension (median
22 of 35,000) is that of all-MiniLM-L6-v2 on texts (23). Queries are drawn from the same clusters and are not indexed.
Each engine is a process of its own, so that the peak of its memory (VmHWM, from before it builds) is its own; all of
them are searched in turn, on one thread. Peers get the smallest nprobe or expansion that reaches recall@10 >= 0.95 on
half of the queries, coldpress what it has tuned itself on rows of its own; recall is that of the other half.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from harness import arguments, write

from coldpress._process import resident_bytes
from coldpress.index.vectors import prepare, prepared_blocks
from coldpress.store import EmbeddingStore, StoreWriter
from coldpress.types import Fingerprint, Item, Outcome, Results, TextInput

K, QUERIES, TARGET, ROUNDS, SHARD_ROWS = 10, 1000, 0.95, 5, 50_000
LATENT, SPREAD, NOISE = 64, 1.0, 0.3
LADDER = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def synthetic(rows: int, dim: int, count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """`count` vectors in blocks of float32, from the clusters for `rows`.

    Those are of unequal size, each spread along 64 directions of its own, with noise in all.
    """
    clusters = max(1000, rows // 500)
    draw = np.random.default_rng(0)
    decay = np.arange(1, dim + 1) ** -0.5
    centres = (draw.normal(size=(clusters, dim)) * decay / np.linalg.norm(decay)).astype(np.float32)
    bases = (draw.normal(size=(clusters // 10, LATENT, dim)) / np.sqrt(dim * LATENT)).astype(np.float32)
    weights = draw.pareto(1.5, clusters) + 0.2
    draw = np.random.default_rng([1, seed])
    for start in range(0, count, SHARD_ROWS):
        size = min(SHARD_ROWS, count - start)
        cluster = np.sort(draw.choice(clusters, size, p=weights / weights.sum()))
        vectors = centres[cluster] + np.float32(NOISE / np.sqrt(dim)) * draw.standard_normal((size, dim), np.float32)
        along = np.float32(SPREAD) * draw.standard_normal((size, LATENT), np.float32)
        for basis in np.unique(cluster % len(bases)):
            chosen = cluster % len(bases) == basis
            vectors[chosen] += along[chosen] @ bases[basis]
        yield vectors[draw.permutation(size)]


def write_store(path: Path, rows: int, dim: int) -> EmbeddingStore:
    """The vectors as a float16 store; one that is there is taken."""
    if (path / "manifest.json").exists() and len(EmbeddingStore(path)) == rows:
        return EmbeddingStore(path)
    space = Fingerprint({"weights": "synthetic"})
    options: dict[str, Any] = {"dtype": "float16", "shard_rows": SHARD_ROWS, "model": "synthetic", "source": "memory"}
    nothing, done = np.zeros(1, np.int32), 0
    with StoreWriter(path, fingerprint=space, dims={"pooled": dim}, description={}, **options) as writer:
        for block in synthetic(rows, dim, rows):
            items = [Item(f"{done + row:08d}", "") for row in range(len(block))]
            inputs = [TextInput(nothing, item.key, 1, truncated=False) for item in items]
            outcomes = [Outcome(item.key, "ok") for item in items]
            writer.write(Results(items, inputs, outcomes, [None] * len(items), {"pooled": block}))
            done += len(block)
        writer.finish()
    return EmbeddingStore(path)


def first_rows(store: EmbeddingStore, rows: int) -> Iterator[np.ndarray]:
    for start, block in prepared_blocks(store.embeddings, "cosine", store.keys):
        if start < rows:
            yield block[: rows - start]


def exact_neighbours(store: EmbeddingStore, queries: np.ndarray) -> np.ndarray:
    """Rows (Q, 10) of the true neighbours."""
    import faiss

    scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start, block in prepared_blocks(store.embeddings, "cosine", store.keys):
        new, places = faiss.knn(queries, block, K, metric=faiss.METRIC_INNER_PRODUCT)
        scores, rows = np.concatenate([scores, new], 1), np.concatenate([rows, places + start], 1)
        best = np.argsort(-scores, axis=1)[:, :K]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows


Search = Callable[[np.ndarray, int], np.ndarray]
"""Rows (N, 10) for queries, with an nprobe or expansion; coldpress has its own."""


def build_coldpress(store: EmbeddingStore, memory: int, started: float) -> tuple[Search, dict[str, Any]]:
    from coldpress import VectorIndex

    def say(step: str) -> None:
        print(f"  {time.monotonic() - started:6.0f} s  {step}", flush=True)

    index = VectorIndex.build(store, memory=memory, threads=1, progress=say)

    def search(queries: np.ndarray, _: int) -> np.ndarray:
        return index.search(queries, K, threads=1)[1].astype(np.int64)

    certificate = index.certificate.to_json()
    return search, {"forecast_mb": certificate["forecast_bytes"] >> 20, "settings": dict(index.settings)} | {
        "certificate": certificate
    }


def build_faiss(description: str, store: EmbeddingStore) -> tuple[Search, dict[str, Any]]:
    import faiss

    rows, dim = store.embeddings.shape
    index = faiss.index_factory(dim, description, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        sample = np.sort(np.random.default_rng(0).choice(rows, min(rows, 64 * index.nlist), replace=False))
        index.train(prepare(store.embeddings[sample], "cosine", str))
    for block in first_rows(store, rows):
        index.add(block)
    lists = isinstance(index, faiss.IndexIVF)

    def search(queries: np.ndarray, effort: int) -> np.ndarray:
        kind = faiss.SearchParametersIVF(nprobe=effort) if lists else faiss.SearchParametersHNSW(efSearch=effort)
        found: np.ndarray = index.search(queries, K, params=kind)[1]
        return found

    return search, {"settings": {"factory": description}}


def build_usearch(store: EmbeddingStore) -> tuple[Search, dict[str, Any]]:
    from usearch.index import Index

    index = Index(ndim=store.dim, metric="ip", dtype="f16")
    done = 0
    for block in first_rows(store, len(store)):
        index.add(np.arange(done, done + len(block)), block, threads=1)
        done += len(block)

    def search(queries: np.ndarray, effort: int) -> np.ndarray:
        index.expansion_search = effort
        found: np.ndarray = np.atleast_2d(index.search(queries, K, threads=1).keys).astype(np.int64)
        return found

    return search, {"settings": {"dtype": "f16", "connectivity": index.connectivity}}


def serve(pipe: Connection, name: str, path: Path, memory: int) -> None:
    """One engine: build, say what that took, then answer until there is nothing left to ask."""
    import faiss

    faiss.omp_set_num_threads(1)
    store, started = EmbeddingStore(path), time.monotonic()
    _ = store.keys[0]
    Path("/proc/self/clear_refs").write_text("5")
    before, worked = resident_bytes(mapped=False), time.process_time()
    if name == "coldpress":
        search, facts = build_coldpress(store, memory, started)
    elif name == "usearch f16":
        search, facts = build_usearch(store)
    else:
        search, facts = build_faiss(name.removeprefix("faiss "), store)
    facts |= {"build_s": round(time.monotonic() - started, 1), "build_cpu_s": round(time.process_time() - worked, 1)}
    pipe.send(facts | {"peak_mb": (peak_bytes() - before) >> 20})
    while (asked := pipe.recv()) is not None:
        queries, effort, singly = asked
        start = time.perf_counter()
        if not singly:
            found = search(queries, effort)
            pipe.send((found, time.perf_counter() - start))
            continue
        times = []
        for query in queries:
            start = time.perf_counter()
            search(query[None], effort)
            times.append(1e3 * (time.perf_counter() - start))
        pipe.send((None, times))


def peak_bytes() -> int:
    """Most memory since it was reset, without what was mapped of the program itself."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    kilobytes = {words[0]: int(words[1]) for words in lines if words[-1] == "kB"}
    return 1024 * (kilobytes["VmHWM:"] - kilobytes["RssFile:"] - kilobytes["RssShmem:"])


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([len({*a} & {*b}) / K for a, b in zip(found, truth, strict=True)]))


def compare(names: list[str], path: Path, rows: int, dim: int, memory: int) -> list[dict[str, Any]]:
    """Build all engines one after the other, then search them in turn."""
    store = write_store(path, rows, dim)
    queries = prepare(next(synthetic(rows, dim, QUERIES, seed=1)), "cosine", str)
    truth = exact_neighbours(store, queries)
    context, engines, results = multiprocessing.get_context("spawn"), {}, []
    for name in names:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, name, path, memory), daemon=True)
        process.start()
        facts = {"engine": name, "rows": rows} | ours.recv()
        for effort in LADDER if name != "coldpress" else (0,):
            ours.send((queries[::2], effort, False))
            if recall(ours.recv()[0], truth[::2]) >= TARGET:
                break
        ours.send((queries[1::2], effort, False))
        facts |= {"effort": effort, "recall_at_10": round(recall(ours.recv()[0], truth[1::2]), 4)}
        print(facts, flush=True)
        engines[name], results = (ours, process, effort, facts), [*results, facts]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    singles: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name, (pipe, _, effort, _) in engines.items():
            pipe.send((queries, effort, False))
            seconds[name].append(pipe.recv()[1])
            pipe.send((queries, effort, True))
            singles[name] += pipe.recv()[1]
    for name, (pipe, process, _, facts) in engines.items():
        pipe.send(None)
        process.join()
        facts["qps"] = round(QUERIES / statistics.median(seconds[name]))
        facts["p50_ms"], facts["p99_ms"] = (round(float(np.percentile(singles[name], p)), 3) for p in (50, 99))
        print({key: facts[key] for key in ("engine", "rows", "qps", "p50_ms", "p99_ms", "recall_at_10")}, flush=True)
    return results


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "index_scale.json")
    parser.add_argument("--rows", type=int, default=5_000_000, help="of coldpress alone; 0: none")
    parser.add_argument("--peer-rows", type=int, default=500_000, help="of all engines; 0: none")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--memory", type=float, default=4, help="GB that coldpress may take")
    parser.add_argument("--scratch", type=Path, required=True, help="directory for the vectors: 0.8 GB a million")
    options = parser.parse_args()
    memory, peers = int(options.memory * 2**30), f"faiss IVF{4 * int(options.peer_rows**0.5)},Flat"
    question = f"synthetic vectors x {options.dim}; what coldpress may take: {options.memory:g} GB"
    names = ["coldpress", peers, "faiss HNSW32,Flat", "usearch f16"]
    rows = []
    for count, engines in ((options.rows, names[:1]), (options.peer_rows, names)):
        if count:
            rows += compare(engines, options.scratch / f"{count}x{options.dim}.store", count, options.dim, memory)
            write(options.json, question=question, rows=rows)


if __name__ == "__main__":
    main()
