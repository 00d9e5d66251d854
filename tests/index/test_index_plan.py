"""What will be built, and in how much memory: said before, and true afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from coldpress.errors import ColdpressError
from coldpress.index import VectorIndex
from coldpress.index.plan import plan_index

GB, MB = 1 << 30, 1 << 20

MEASURED = """
import gc, json, sys
from pathlib import Path
import faiss
from coldpress.index import VectorIndex
from coldpress.store import EmbeddingStore

def kilobytes(name):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(name))

store, kind, memory, directory = EmbeddingStore(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
VectorIndex.forecast(store)
gc.collect()
Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from what is there now
before = kilobytes("VmRSS")
index = VectorIndex.build(store, kind=kind, memory=memory or None)
peak, forecast = kilobytes("VmHWM") - before, index.certificate.forecast_bytes
index.save(directory)
queries = store.embeddings[:20]
del index
gc.collect()
before = kilobytes("RssAnon")
opened = VectorIndex.open(directory, memory_map=True, verify=False)
opened.search(queries)
print(json.dumps({"peak": peak * 1024, "forecast": forecast, "opened": (kilobytes("RssAnon") - before) * 1024}))
"""


@pytest.fixture(scope="module")
def wide(make_store):
    """40,000 float16 vectors of width 512 around 500 centres: 41 MB."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(500, 512)).astype(np.float32)
    noise = rng.standard_normal((40_000, 512), np.float32)
    return make_store((centres[rng.integers(0, 500, 40_000)] + 0.7 * noise).astype(np.float16), shard_rows=20_000)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize(("kind", "memory"), [("exact", 0), ("hnsw", 0), ("ivf", 190 * MB)])
def test_memory_is_as_forecast(wide, tmp_path, kind, memory):
    command = [sys.executable, "-c", MEASURED, wide.path, kind, str(memory), tmp_path]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 0.75 < found["peak"] / found["forecast"] < 1.15, found
    assert found["opened"] < 30 * MB, "what is mapped takes no memory of the process"


@pytest.mark.parametrize(
    ("rows", "memory", "kind", "factory"),
    [
        (9_999, None, "exact", "Flat"),
        (10_000, None, "hnsw", "HNSW32,SQfp16"),
        (199_999, 300 * MB, "ivf", "IVF656,PQ96x4fs,Refine(SQ8)"),
        (200_000, None, "ivf", "IVF1788,PQ96x4fs,Refine(SQfp16)"),
        (5_000_000, 16 * GB, "ivf", "IVF4481,PQ96x4fs,Refine(SQfp16)"),
        (5_000_000, 4 * GB, "ivf", "IVF4481,PQ96x4fs,Refine(SQ8)"),
        (50_000_000, 32 * GB, "ivf", "IVF4481,PQ96x4fs,Refine(SQ8)"),
    ],
)
def test_rows_and_memory_choose(rows, memory, kind, factory):
    plan = plan_index(rows, 384, memory=memory)
    assert (plan.kind, plan.factory) == (kind, factory)
    assert plan.open_bytes < plan.index_bytes < plan.build_bytes <= (memory or plan.build_bytes)
    assert plan.training_rows + plan.query_rows <= rows


def test_more_rows_never_take_less():
    for dim in (7, 64, 384, 1024):
        for kind in ("exact", "hnsw", "ivf"):
            plans = [plan_index(rows, dim, kind=kind) for rows in (1000, 10_000, 100_000, 1_000_000)]
            assert all(a.build_bytes < b.build_bytes for a, b in pairwise(plans))


def test_a_graph_is_not_for_the_dot_product():
    assert plan_index(50_000, 384, metric="dot").kind == "ivf"
    assert plan_index(50_000, 384, metric="dot", kind="hnsw").kind == "hnsw"


def test_what_does_not_fit_is_refused_with_what_to_do():
    with pytest.raises(
        ColdpressError, match=r"50,000,000 x 1024 takes 6\d\.\d GB .* but 8\.0 GB .* may be used: raise"
    ):
        plan_index(50_000_000, 1024, memory=8 * GB)


def test_a_forecast_reads_no_vectors(make_store):
    store = make_store(np.eye(4))
    (store.path / "embeddings" / "part-00000.npy").unlink()
    assert VectorIndex.forecast(store).kind == "exact"


@pytest.mark.parametrize("kind", [{"kind": "hnsw"}, {"kind": "ivf"}, {"factory": "IVF100,SQ8"}, {"factory": "RaBitQ"}])
def test_the_file_is_as_large_as_forecast(clustered, tmp_path, kind):
    plan = VectorIndex.forecast(clustered, **kind)
    VectorIndex.build(clustered, **kind).save(tmp_path)
    (file,) = tmp_path.glob("index-*")
    assert file.stat().st_size == pytest.approx(plan.index_bytes, rel=0.1)
