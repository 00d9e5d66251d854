"""What faiss-gpu takes over: with indices of the CPU in the place of those on GPUs, as none is at hand here."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from judge import brute_force, overlap

from coldpress.errors import ColdpressError
from coldpress.index import VectorIndex
from coldpress.index.gpu import assigning_on_gpus

GPUS = 3


class FaissGpu:
    """What faiss-gpu has and faiss-cpu has not: says what was cloned, and can have little memory."""

    def __init__(self):
        self.cloned, self.parts, self.room = [], [], np.inf

    class GpuIndexFlatConfig:
        device = 0
        useFloat16 = False  # noqa: N815 (faiss calls it so)

    def get_num_gpus(self):
        return GPUS

    def StandardGpuResources(self):  # noqa: N802
        return None

    def index_cpu_to_all_gpus(self, index):
        self.cloned.append(faiss.clone_index(index))
        return self.cloned[-1]

    def GpuIndexFlatIP(self, _resources, dim, config):  # noqa: N802
        half = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        part = half if config.useFloat16 else faiss.IndexFlatIP(dim)
        add = part.add

        def checked(vectors):
            if sum(part.ntotal for part in self.parts) + len(vectors) > self.room:
                raise RuntimeError("Error in GpuResources: cudaMalloc: out of memory\nand more")
            add(vectors)

        part.add = checked
        self.parts.append(part)
        return part


@pytest.fixture
def gpus(monkeypatch):
    stand = FaissGpu()
    for name in dir(stand):
        if not name.startswith("_"):
            monkeypatch.setattr(faiss, name, getattr(stand, name), raising=False)
    return stand


@pytest.mark.parametrize("factory", ["IVF200,SQfp16", "IVF200,PQ12x4fs,Refine(SQfp16)", "IVF200,Flat"])
def test_lists_are_found_on_gpus_and_the_index_is_the_same(clustered, gpus, vectors_in_clusters, factory, monkeypatch):
    def built():
        return VectorIndex.build(clustered, factory=factory, threads=1)

    with_gpus = built()
    assert [clone.ntotal for clone in gpus.cloned] == [200, 200]  # to cluster with, to find lists with
    gpus.cloned.clear()  # the index must not need them any more
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    found, expected = (index.search(vectors_in_clusters[::97], 10) for index in (with_gpus, built()))
    assert not gpus.cloned
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_rows_go_to_the_lists_that_the_gpus_say(gpus, monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    index = faiss.index_factory(8, "IVF32,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    plain, on_cpu = faiss.clone_index(index), index.quantizer.this
    plain.add(vectors)

    def backwards(quantizer):
        flat = faiss.IndexFlatIP(8)
        flat.add(quantizer.reconstruct_n(0, 32)[::-1].copy())
        return flat

    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", backwards)
    with assigning_on_gpus(faiss, index):
        index.add(vectors)
    assert index.quantizer.this == on_cpu
    sizes = [[lists.list_size(i) for i in range(32)] for lists in (plain.invlists, index.invlists)]
    assert sizes[1] == sizes[0][::-1]


@pytest.mark.parametrize(
    ("kind", "metric"), [("exact", "cosine"), ("exact", "dot"), ("hnsw", "cosine"), ("ivf", "dot")]
)
def test_every_row_is_compared(clustered, gpus, vectors_in_clusters, kind, metric):
    index = VectorIndex.build(clustered, kind=kind, metric=metric)
    assert index.to("cuda") is index
    assert [part.ntotal for part in gpus.parts] == [4000] * GPUS
    queries = vectors_in_clusters[::7]
    scores, keys = index.search(queries, 10)
    expected, rows = brute_force(vectors_in_clusters, queries, metric, 10)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)
    true = [[f"item {row}" for row in near] for near in rows]
    assert overlap(keys, true) > (0.9999 if kind == "exact" else 0.995)  # of those that are kept in 16 bits
    assert (np.diff(scores, axis=1) <= 0).all()


def test_scores_and_order_are_those_of_the_cpu(make_store, gpus):
    vectors = np.random.default_rng(0).normal(size=(50, 8))[np.arange(200) % 50]  # every row four times
    index = VectorIndex.build(make_store(vectors), kind="exact")
    scores, keys = index.search(vectors[:50], 7)
    found, found_keys = index.to("cuda").search(vectors[:50], 7)
    np.testing.assert_allclose(found, scores, rtol=1e-6)
    np.testing.assert_array_equal(found_keys, keys)
    assert index.search(vectors[:3], 500)[0].shape == (3, 200)
    assert index.search(vectors[:0], 5)[0].shape == (0, 5)


def test_conditions_changes_and_many_neighbours_go_to_the_cpu(make_store, gpus):
    vectors = np.random.default_rng(0).normal(size=(2500, 4))
    metadata = [{"even": row % 2 == 0} for row in range(2500)]
    index = VectorIndex.build(make_store(vectors, metadata=metadata), kind="exact").to("cuda")
    for part in gpus.parts:
        part.search = lambda *_: pytest.fail("this one is for the CPU")
    assert index.search(vectors[:1], 3, where={"even": True})[1][0, 0] == "item 0"
    assert index.search(vectors[:1], 2100)[0].shape == (1, 2100)
    index.remove(["item 0"])
    assert "item 0" not in index.search(vectors[:1], 3)[1]
    index.compact()
    assert index.search(vectors[1:2], 3)[1][0, 0] == "item 1"
    index.to("cpu")


def test_where_there_is_no_gpu_auto_stays_and_cuda_says_what_is_missing(make_store):
    index = VectorIndex.build(make_store(np.eye(4)))
    assert index.to("auto").search(np.eye(4)[:1], 1)[1] == "item 0"
    with pytest.raises(ColdpressError, match="faiss-gpu in place of faiss-cpu: pip uninstall"):
        index.to("cuda")
    with pytest.raises(ColdpressError, match="device is 'tpu', expected 'auto', 'cpu' or 'cuda'"):
        index.to("tpu")


def test_vectors_that_do_not_fit_stay_on_the_cpu(clustered, gpus, caplog):
    index, gpus.room = VectorIndex.build(clustered, kind="exact"), 7000
    with pytest.raises(ColdpressError, match=r"12,000 vectors take 1\.1 MB .* out of memory\): search on the CPU"):
        index.to("cuda")
    gpus.parts.clear()
    assert len(index.to("auto").search(np.ones((1, 24)), 5)[0][0]) == 5
    assert "no room for them" in caplog.text


def test_signs_are_for_the_cpu(make_store, gpus):
    index = VectorIndex.build(make_store(np.random.default_rng(0).normal(size=(20, 16)), dtype="binary"))
    with pytest.raises(ColdpressError, match="signs"):
        index.to("cuda")
