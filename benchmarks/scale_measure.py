"""What an item costs at each stage, by how many there are: the measured half of `scale_study.py`.

Costs are CPU seconds of one thread of this process, so that a busy machine does not count; sizes are bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from coldpress.data import MemorySource
from coldpress.distributed import embed
from coldpress.engine.known import KnownRows
from coldpress.index._faiss import faiss_threads
from coldpress.index.build import empty_index, train
from coldpress.index.parts import Part, RowRange, put_together
from coldpress.index.plan import IndexPlan
from coldpress.index.recall import no_neighbours
from coldpress.store import EmbeddingStore, StoreWriter
from coldpress.store.digests import DigestIndex
from coldpress.store.keys import Keys
from coldpress.types import Fingerprint, Item, Outcome, Results, TextInput

DIM, SHARD_ROWS, LOOKUP = 384, 65_536, 1024
Row = dict[str, Any]


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, and what came of it."""
    begin = time.process_time()
    made = work()
    return time.process_time() - begin, made


def chunks(rows: int) -> Iterator[Results]:
    """Rows as a run hands them to its writer, 1,024 at a time."""
    vectors = np.random.default_rng(0).standard_normal((LOOKUP, DIM)).astype(np.float32)
    for first in range(0, rows, LOOKUP):
        count = min(LOOKUP, rows - first)
        digests = hexadecimal(count)
        items = [Item(key, key) for key in (f"texts/{first + i:011d}" for i in range(count))]
        inputs = [TextInput(np.arange(4, dtype=np.int32), digest, 4, truncated=False) for digest in digests]
        outcomes = [Outcome(item.key, "ok") for item in items]
        yield Results(items, inputs, outcomes, [None] * count, {"pooled": vectors[:count]})


def hexadecimal(count: int) -> list[str]:
    """Random digests."""
    text = os.urandom(16 * count).hex()
    return [text[i : i + 32] for i in range(0, 32 * count, 32)]


def writing(path: Path, rows: int) -> Row:
    """Write a store, then open it as a run does that goes on."""
    more: Row = {"model": "synthetic", "source": "numbers", "description": {}, "shard_rows": SHARD_ROWS}
    spent = 0.0
    with StoreWriter(
        path, fingerprint=Fingerprint({"w": "0"}), dims={"pooled": DIM}, dtype="float16", **more
    ) as opened:
        for chunk in chunks(rows):
            spent += cpu(partial(opened.write, chunk))[0]
        spent += cpu(opened.finish)[0]
    store = EmbeddingStore(path)
    resuming, _ = cpu(lambda: KnownRows(store.root, store.manifest))
    return {
        "rows": rows,
        "write_us": 1e6 * spent / rows,
        "bytes_per_row": store.nbytes / rows,
        "manifest_bytes": (path / "manifest.json").stat().st_size,
        "resume_us": 1e6 * resuming / rows,
    }


def looking_up(rows: int) -> Row:
    """Keys of a store in memory: sorted once, then found."""
    numbers = np.arange(rows)
    keys = pa.concat_arrays(
        [
            pa.array([f"texts/{n:011d}" for n in numbers[s : s + 500_000].tolist()], pa.large_string())
            for s in range(0, rows, 500_000)
        ]
    )
    opened = Keys(keys)
    first, _ = cpu(lambda: opened.find(keys[rows // 2].as_py()))
    wanted = [keys[int(row)].as_py() for row in np.random.default_rng(0).integers(0, rows, 1000)]
    spent, _ = cpu(lambda: [opened.find(key) for key in wanted])
    return {"rows": rows, "key_bytes": (keys.nbytes + 8 * rows) / rows, "sort_s": first, "find_us": 1e3 * spent}


def deduplicating(scratch: Path, rows: int) -> Row:
    """Which contents are known: entries added and asked for as in a run, in batches."""
    index, spent, asked = DigestIndex(scratch), 0.0, 0.0
    for first in range(0, rows, LOOKUP):
        digests = hexadecimal(min(LOOKUP, rows - first))
        if rows - first <= 20 * LOOKUP:
            asked += cpu(partial(index.find, digests))[0]
        spent += cpu(partial(index.add, digests, range(first, first + len(digests))))[0]
    return {
        "rows": rows,
        "add_us": 1e6 * spent / rows,
        "find_us": 1e6 * asked / min(rows, 20 * LOOKUP),
        "runs": len(index._runs),
    }


def searching(entries: int) -> Row:
    """Look up random digests, sorted as `DigestIndex` has them, in one sorted run."""
    random, step = np.random.default_rng(0), np.uint64(2**64 // entries)
    run = np.arange(entries, dtype=np.uint64) * step
    wanted = [random.integers(0, 2**64, LOOKUP, dtype=np.uint64) for _ in range(40)]
    spent, _ = cpu(lambda: [np.searchsorted(run, np.sort(digests)) for digests in wanted])
    return {"entries": entries, "find_us": 1e6 * spent / (40 * LOOKUP)}


def coordinating(extractor: Any, scratch: Path, counts: tuple[int, int]) -> Row:
    """What the process that reads, decides and writes spends on an item that another process computes."""
    spent = []
    for count in counts:
        texts = ((f"texts/{i:011d}", f"text number {i} of many, with some more words behind it") for i in range(count))
        source = MemorySource(texts, "text")
        spent.append(cpu(partial(embed, source, extractor, scratch / str(count), devices=["cpu"]))[0])
    each = (spent[1] - spent[0]) / (counts[1] - counts[0])
    return {"items": counts[1], "coordinate_us": 1e6 * each, "items_per_s": 1 / each}


def indexing(nlist: int, rows: int) -> Row:
    """Add a part to inverted lists of `nlist` random centroids, look for exact neighbours in it, and append it."""
    random = np.random.default_rng(0)

    def vectors(count: int) -> Any:
        made = random.standard_normal((count, DIM), dtype=np.float32)
        return made / np.linalg.norm(made, axis=1)[:, None]

    factory = f"IVF{nlist},PQ96x4fs,Refine(SQ8)"
    plan = IndexPlan("ivf", factory, rows, DIM, nlist, 0, 0, 0, 0, 0)
    with faiss_threads(1) as faiss:
        index = empty_index(faiss, plan, 0)
        below = faiss.downcast_index(index.base_index)
        below.quantizer.add(vectors(nlist))
        train(faiss, index, vectors(5000))
        trained = faiss.serialize_index(index)
        part, block = faiss.deserialize_index(trained), vectors(rows)
        adding, _ = cpu(lambda: part.add(block))
        exact = no_neighbours(block[:1000], np.arange(1000))
        judging, _ = cpu(lambda: exact.add(faiss, 0, block))
        made = Part(RowRange(0, rows), faiss.serialize_index(part), exact.scores, exact.rows)
        merging, _ = cpu(lambda: put_together(faiss, index, exact, made))
    return {
        "lists": nlist,
        "rows": rows,
        "add_us": 1e6 * adding / rows,
        "exact_us": 1e6 * judging / rows,
        "merge_us": 1e6 * merging / rows,
        "part_bytes": (len(made.index) - len(trained)) / rows,
    }
