"""Workers that add parts of the rows build the index that one process builds."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
from judge import brute_force, overlap

from coldpress.distributed import build_index
from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.index import VectorIndex

PART = 4096
KEYS = [f"item {row}" for row in range(12_000)]


def same_answers(one, other, queries):
    """Whether both find the same rows with the same scores, and certify the same recall."""
    (scores, keys), (other_scores, other_keys) = one.search(queries, 10), other.search(queries, 10)
    assert np.array_equal(keys, other_keys)
    assert np.array_equal(scores, other_scores)
    assert one.settings == other.settings
    assert one.certificate.recall_at_10 == other.certificate.recall_at_10
    return True


@pytest.fixture(scope="module")
def halves(make_store, vectors_in_clusters):
    """The rows of `clustered` in two stores, the second with a column that the first has not."""
    vectors = vectors_in_clusters
    metadata = [{"label": "late"}] * 5000
    return [
        make_store(vectors[:7000], KEYS[:7000]),
        make_store(vectors[7000:], KEYS[7000:], metadata=metadata, shard_rows=2000),
    ]


@pytest.mark.parametrize("how", [{"kind": "ivf"}, {"factory": "IVF100,SQ8"}], ids=["ivf", "factory"])
def test_two_processes_find_what_one_finds(clustered, vectors_in_clusters, how):
    alone = VectorIndex.build(clustered, **how, threads=1)
    said = []
    shared = build_index(clustered, workers=2, part_rows=PART, progress=said.append, **how)
    queries = vectors_in_clusters[::50].astype(np.float32)
    assert same_answers(alone, shared, queries)
    assert list(shared.keys) == KEYS
    assert sum("of 12,000 rows" in line and "left" in line for line in said) == 3
    _, near = brute_force(vectors_in_clusters, queries, "cosine", 10)
    assert overlap(shared.search(queries, 10)[1], np.asarray(KEYS)[near]) >= 0.93


def test_several_stores_become_the_index_of_one(clustered, halves, vectors_in_clusters, tmp_path):
    alone = VectorIndex.build(clustered, kind="ivf", threads=1)
    shared = build_index([str(halves[0].path), halves[1]], workers=2, part_rows=PART, kind="ivf")
    queries = vectors_in_clusters[::50].astype(np.float32)
    assert same_answers(alone, shared, queries)
    assert shared.keys[:].tolist() == KEYS
    assert shared.search(queries[:1], where="label = late")[1].shape == (1, 10)
    assert shared.metadata(["item 0", "item 11999"], ["label"]).column("label").to_pylist() == [None, "late"]
    shared.save(tmp_path)
    opened = VectorIndex.open(tmp_path, memory_map=True)
    assert same_answers(shared, opened, queries)
    opened.remove(["item 3"])
    opened.compact()
    assert len(opened) == 11_999


def test_what_has_no_lists_is_built_here(halves, vectors_in_clusters):
    index = build_index(halves, kind="exact", workers=2)
    queries = vectors_in_clusters[::500].astype(np.float32)
    _, near = brute_force(vectors_in_clusters, queries, "cosine", 10)
    assert overlap(index.search(queries, 10)[1], np.asarray(KEYS)[near]) >= 0.999


def workers():
    """Worker processes of this one."""
    shown = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in shown.stdout.splitlines() if "coldpress.distributed.worker" in line]


def test_a_lost_worker_leaves_no_trace(clustered, vectors_in_clusters):
    killed = []

    def kill():
        end = time.monotonic() + 60
        while not killed and time.monotonic() < end:
            for pid in workers()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    shared = build_index(clustered, workers=2, part_rows=PART, kind="ivf")
    thread.join()
    assert killed
    assert workers() == []
    assert same_answers(
        VectorIndex.build(clustered, kind="ivf", threads=1), shared, vectors_in_clusters[::50].astype(np.float32)
    )


def test_what_cannot_be_indexed_together(make_store, vectors_in_clusters, clustered):
    other = make_store(vectors_in_clusters[:200], fingerprint={"weights": "xyz", "pooling": "mean"})
    with pytest.raises(FingerprintMismatch, match="are of different spaces"):
        build_index([clustered, other])
    smaller = make_store(vectors_in_clusters[:200], dtype="int8")
    with pytest.raises(ColdpressError, match="has dtype and outputs"):
        build_index([clustered, smaller])
    repeated = make_store(vectors_in_clusters[:200])
    with pytest.raises(ColdpressError, match="200 keys are in more than one row"):
        build_index([clustered, repeated])
    with pytest.raises(ColdpressError, match="there is no store"):
        build_index([])
    with pytest.raises(ColdpressError, match="workers is 0"):
        build_index(clustered, workers=0)


def test_a_row_without_a_direction_is_named(make_store, vectors_in_clusters):
    vectors = vectors_in_clusters.copy()
    vectors[9000] = 0
    with pytest.raises(ColdpressError, match=r"'item 9000' \(row 9000\) is all zeros"):
        build_index(make_store(vectors), workers=2, part_rows=PART, kind="ivf", seed=1)
    assert workers() == []
