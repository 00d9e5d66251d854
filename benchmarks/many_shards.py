"""How long does a store of a million shards take to open, and a shard to commit, beside a store of ten?

    python benchmarks/many_shards.py [--shards 1000000] [--commits 20]

From 100,000 on the store is synthetic: manifest and segments are those that as many real commits would have left, the
files of the shards are missing but for the last ones. What is timed is real: opening it, and a writer that commits
shards of 16 rows to it, syncs included. The plain list of format version 1 is timed at a hundredth of the shards.
"""

from __future__ import annotations

import hashlib
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import arguments, write

from coldpress.store import EmbeddingStore, StoreWriter, manifest, segments
from coldpress.store.files import write_atomically
from coldpress.store.root import open_root
from coldpress.store.shards import Totals
from coldpress.types import Fingerprint, Item, Outcome, Results, TextInput

DIM, ROWS = 384, 16


def results(first: int) -> Results:
    numbers = range(first, first + ROWS)
    keys = [f"text {number}" for number in numbers]
    hashes = [hashlib.sha256(key.encode()).hexdigest()[:32] for key in keys]
    inputs = [TextInput(np.arange(4, dtype=np.int32), digest, 4, truncated=False) for digest in hashes]
    vectors = np.random.default_rng(first).standard_normal((ROWS, DIM)).astype(np.float32)
    outcomes = [Outcome(key, "ok") for key in keys]
    return Results([Item(key, key) for key in keys], inputs, outcomes, [None] * ROWS, {"pooled": vectors})


def writer(path: Path) -> StoreWriter:
    more: dict[str, Any] = {"model": "synthetic", "source": "numbers", "description": {}, "shard_rows": ROWS}
    return StoreWriter(path, fingerprint=Fingerprint({"weights": "0"}), dims={"pooled": DIM}, dtype="float16", **more)


def synthetic(path: Path, shards: int) -> None:
    """Make the first of its shards a whole number of blocks, without files, and the rest real ones."""
    with writer(path) as opened:
        opened.write(results(0))
    root, random = open_root(path), np.random.default_rng(0)
    begun = manifest.read_manifest(root)
    listed = begun.shards
    for first, count in segments.blocks(shards):
        counts = np.tile(np.array([ROWS, ROWS, 0, 0, 0], np.int64), (count, 1))
        sizes = np.tile(np.array([128 + 2 * DIM * ROWS, 2900, 1600], np.int64), (count, 1))
        digests = np.frombuffer(random.bytes(count * 3 * 32), "V32").reshape(count, 3)
        totals = Totals(count * ROWS, count * ROWS, 0, 0, int(sizes.sum()))
        segment = segments.write_segment(root, segments.shard_columns(counts, sizes, digests), totals, first, count)
        sealed = np.concatenate([listed.sealed, counts])
        listed = replace(listed, segments=(*listed.segments, segment), sealed=sealed, totals=listed.totals.plus(totals))
    totals = listed.totals.plus(Totals.of(begun.shards[0]), -1)
    manifest.write_manifest(root, replace(begun, shards=replace(listed, tail=(), totals=totals)))


def opening(path: Path, repeats: int = 5) -> float:
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        EmbeddingStore(path)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def committing(path: Path, commits: int) -> dict[str, float]:
    begin = time.perf_counter()
    with writer(path) as opened:
        started, seconds = time.perf_counter() - begin, []
        for _ in range(commits):
            chunk = results(opened.committed_inputs)
            begin = time.perf_counter()
            opened.write(chunk)
            seconds.append(time.perf_counter() - begin)
    return {"writer_start_s": started, "commit_s": statistics.median(seconds), "slowest_commit_s": max(seconds)}


def version_1(path: Path, shards: int) -> float:
    """Opening a plain list of all shards."""
    with writer(path) as opened:
        opened.write(results(0))
    begun = manifest.read_manifest(open_root(path))
    first = begun.shards[0].files
    listed = begun.shards
    for number in range(1, shards):
        files = {name.replace("00000", f"{number:05d}"): file for name, file in first.items()}
        listed = replace(listed, tail=(*listed.tail, replace(begun.shards[0], files=files)))
    for directory in ("embeddings", "metadata", "outcomes"):
        (source,) = (path / directory).iterdir()
        for number in range(1, shards):
            (path / directory / source.name.replace("00000", f"{number:05d}")).hardlink_to(source)
    manifest.write_manifest(open_root(path), replace(begun, shards=listed))
    return opening(path)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "many_shards.json")
    parser.add_argument("--shards", type=int, default=1_000_000)
    parser.add_argument("--commits", type=int, default=300, help="enough for a new segment")
    options = parser.parse_args()
    rows = []
    scratch = Path(tempfile.mkdtemp())
    try:
        for shards in (10, 1_000, 100_000, options.shards):
            path = scratch / str(shards)
            if shards > manifest.ALL_CHECKED:
                synthetic(path, shards // 256 * 256)
            with writer(path) as opened:
                while opened.committed_inputs < shards * ROWS:
                    opened.write(results(opened.committed_inputs))
            row = {"shards": shards, "manifest_bytes": (path / "manifest.json").stat().st_size}
            segment_files = [file.stat().st_size for file in (path / "shards").glob("*")]
            row |= {"segments": len(segment_files), "segment_bytes": sum(segment_files)}
            rows.append(row | {"open_s": opening(path)} | committing(path, options.commits))
            print(rows[-1], flush=True)
        plain = options.shards // 100
        write_atomically(scratch / "warm", b"")
        first_version = {"shards": plain, "open_s": version_1(scratch / "plain", plain)}
        print(first_version)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    write(options.json, question="Opening a store and committing a shard", rows=rows, version_1=first_version)


if __name__ == "__main__":
    main()
