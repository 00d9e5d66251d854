"""What a search answers: brute force in numpy is the judge."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from judge import brute_force

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.index import VectorIndex
from coldpress.store.blocks import block_rows
from coldpress.types import Fingerprint


@st.composite
def problems(draw):
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    dim, rows, queries = draw(st.integers(1, 9)), draw(st.integers(1, 40)), draw(st.integers(1, 30))
    values = st.integers(-8, 8).map(float)
    table = arrays(dtype, (rows + queries, dim), elements=values, fill=st.nothing())
    table = draw(table.map(lambda x: np.where((x == 0).all(axis=1, keepdims=True), np.ones_like(x), x)))
    return table[:rows], table[rows:], draw(st.sampled_from(["cosine", "dot"])), draw(st.integers(1, 50))


@given(problems())
@settings(max_examples=80, deadline=None)
def test_exact_search_equals_brute_force(make_store, problem):
    vectors, queries, metric, k = problem
    scores, keys = VectorIndex.build(make_store(vectors), metric=metric).search(queries, k)
    expected, _ = brute_force(vectors, queries, metric, k)
    assert scores.shape == keys.shape == (len(queries), min(k, len(vectors)))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=1e-5)
    every, _ = brute_force(vectors, queries, metric, len(vectors))
    by_row = np.empty_like(every)
    np.put_along_axis(by_row, brute_force(vectors, queries, metric, len(vectors))[1], every, axis=1)
    found = np.array([[int(key.split()[1]) for key in row] for row in keys])
    np.testing.assert_allclose(np.take_along_axis(by_row, found, axis=1), scores, atol=1e-5, rtol=1e-5)
    assert all(len(set(row)) == len(row) for row in found)


def test_rows_of_equal_score_come_in_the_order_of_the_store(make_store):
    vectors = np.eye(4, dtype=np.float32)[[1, 0, 0, 2, 0, 0, 3]]
    _, keys = VectorIndex.build(make_store(vectors)).search(np.eye(4)[:1], k=3)
    assert keys[0].tolist() == ["item 1", "item 2", "item 4"]


def test_blocks_join_without_seam(make_store, monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(1000, 16)).astype(np.float16)
    whole = VectorIndex.build(make_store(vectors)).search(vectors[:50], 5)
    monkeypatch.setattr("coldpress.store.blocks.BLOCK_BYTES", 64 * 7)
    assert block_rows(16) == 7
    parts = VectorIndex.build(make_store(vectors)).search(vectors[:50], 5)
    np.testing.assert_array_equal(parts[1], whole[1])


def test_auto_is_exact_below_ten_thousand_rows_and_a_graph_from_there(make_store, vectors_in_clusters):
    assert VectorIndex.build(make_store(vectors_in_clusters[:9_999])).kind == "exact"
    assert VectorIndex.build(make_store(vectors_in_clusters[:10_000])).kind == "hnsw"
    assert VectorIndex.build(make_store(vectors_in_clusters[:10_000]), metric="dot").kind == "ivf"


def test_one_of_several_outputs(make_store):
    rng = np.random.default_rng(0)
    outputs = {"layer:3": rng.normal(size=(20, 4)), "layer:6": rng.normal(size=(20, 6))}
    store = make_store(outputs)
    assert VectorIndex.build(store).dim == 4
    index = VectorIndex.build(store, output="layer:6")
    assert index.search(outputs["layer:6"], 1)[1].ravel().tolist() == list(store.keys)


@pytest.mark.parametrize(
    ("kind", "metric"),
    [("ivf", "cosine"), ("ivf", "dot"), ("hnsw", "cosine"), ("IVF200,Flat", "dot"), ("SQ8", "cosine")],
)
def test_it_reaches_its_recall_on_queries_of_its_own_data(clustered, vectors_in_clusters, kind, metric):
    chosen = {"kind": kind} if kind in ("ivf", "hnsw") else {"factory": kind}
    index = VectorIndex.build(clustered, metric=metric, **chosen)
    assert index.settings["recall_at_10"] >= 0.95
    if kind == "ivf":
        assert 1 <= index.settings["nprobe"] < index.settings["nlist"]
    # fresh queries, measured here: the stored number must not flatter
    rng = np.random.default_rng(9)
    queries = vectors_in_clusters[rng.choice(12_000, 500)] + 0.1 * rng.normal(size=(500, 24))
    _, keys = index.search(queries, 10)
    _, rows = brute_force(vectors_in_clusters, queries, metric, 10)
    found = [len({f"item {row}" for row in near} & set(got)) / 10 for near, got in zip(rows, keys, strict=True)]
    assert np.mean(found) >= 0.92


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_one_thread_builds_the_same_index_again(clustered, kind):
    first, second = (VectorIndex.build(clustered, kind=kind, threads=1) for _ in range(2))
    assert first.settings == second.settings
    queries = clustered.embeddings[:200]
    for a, b in zip(first.search(queries), second.search(queries), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_there_are_no_holes_when_the_probed_lists_hold_fewer_than_k(clustered, kind):
    index = VectorIndex.build(clustered, kind=kind)
    for k in (500, 20_000):
        _, keys = index.search(clustered.embeddings[:3], k)
        assert keys.shape == (3, min(k, 12_000))
        assert all(len(set(row)) == len(row) and None not in row for row in keys)


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf"])
def test_neighbours_of_a_stored_item_leave_it_out(clustered, kind):
    index = VectorIndex.build(clustered, kind=kind)
    scores, keys = index.search_key("item 7", k=5)
    assert scores.shape == keys.shape == (5,)
    assert "item 7" not in keys
    np.testing.assert_array_equal(
        keys, [key for key in index.search(clustered.embeddings[7:8], k=6)[1][0] if key != "item 7"]
    )


def test_neighbours_of_a_stored_item_with_duplicates(make_store):
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 0, 1]]
    assert VectorIndex.build(make_store(vectors)).search_key("item 1", k=2)[1].tolist() == ["item 0", "item 2"]


def test_a_query_of_float64_float16_or_a_list_is_the_same_query(make_store):
    vectors = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float16)
    index = VectorIndex.build(make_store(vectors))
    expected = index.search(vectors[:2], 3)
    for queries in (vectors[:2].astype(np.float64), vectors[:2].tolist()):
        np.testing.assert_array_equal(index.search(queries, 3)[0], expected[0])


@pytest.mark.parametrize("threads", [1, 2])
def test_the_thread_count_of_faiss_is_put_back(make_store, threads):
    before = faiss.omp_get_max_threads()
    index = VectorIndex.build(make_store(np.eye(4)), threads=threads)
    index.search(np.eye(4), threads=threads)
    with pytest.raises(ColdpressError):
        VectorIndex.build(make_store(np.zeros((2, 4))), threads=threads)
    assert faiss.omp_get_max_threads() == before


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (np.ones(4), 1, r"shape \(4,\), expected \(N, 4\)"),
        (np.ones((2, 3)), 1, r"shape \(2, 3\), expected \(N, 4\)"),
        (np.ones((1, 4)), 0, "k is 0"),
        ([[1, 1, 1, 1], [1, np.nan, 1, 1]], 1, "query 1 holds NaN or Inf"),
        ([[0, 0, 0, 0]], 1, "query 0 is all zeros"),
    ],
)
def test_bad_queries_are_refused(make_store, queries, k, message):
    with pytest.raises(ColdpressError, match=message):
        VectorIndex.build(make_store(np.eye(4))).search(queries, k)


@pytest.mark.parametrize(
    ("vectors", "options", "message"),
    [
        (np.empty((0, 4)), {}, "no vectors"),
        ([[1, 0], [0, 0]], {}, r"'item 1' \(row 1\) is all zeros.*metric='dot'"),
        (np.eye(4), {"kind": "ivf"}, "at least 100 rows, got 4"),
        (np.eye(4), {"kind": "flat"}, "'flat', expected"),
        (np.eye(4), {"factory": "Tree7"}, r"'Tree7', which faiss cannot make of vectors of width 4"),
        (np.eye(4), {"factory": "Flat", "kind": "exact"}, "replaces kind"),
        (np.eye(4), {"recall": 1.5}, r"recall is 1\.5"),
        (np.eye(4), {"output": "layer:3"}, "no output 'layer:3', expected one of pooled"),
        (np.eye(400), {"memory": 1000}, r"an index of 400 x 400 takes .* but 0\.0 MB of memory may be used: raise"),
        (np.eye(4), {"metric": "l2"}, "'l2', expected"),
        (np.eye(4), {"threads": 0}, "threads is 0"),
    ],
)
def test_what_cannot_be_indexed_is_refused(make_store, vectors, options, message):
    with pytest.raises(ColdpressError, match=message):
        VectorIndex.build(make_store(vectors), **options)


def test_a_damaged_vector_is_named(make_store):
    store = make_store(np.eye(4))
    np.load(store.path / "embeddings" / "part-00000.npy", mmap_mode="r+")[2, 1] = np.nan
    with pytest.raises(ColdpressError, match=r"stored vector 'item 2' \(row 2\) holds NaN or Inf"):
        VectorIndex.build(store)


def test_tiny_and_huge_vectors_have_a_direction(make_store):
    vectors = np.array([[1e-30, 0], [0, 1e30]], dtype=np.float32)
    scores, keys = VectorIndex.build(make_store(vectors)).search(vectors, 1)
    np.testing.assert_allclose(scores, 1, rtol=1e-6)
    assert keys.ravel().tolist() == ["item 0", "item 1"]


def test_an_unknown_key_is_named(make_store):
    with pytest.raises(ColdpressError, match="key 'nobody' is not among the 4 keys"):
        VectorIndex.build(make_store(np.eye(4))).search_key("nobody")


def test_vectors_of_another_space_are_refused_with_what_differs(make_store):
    index = VectorIndex.build(make_store(np.eye(4)))
    index.check(Fingerprint({"pooling": "mean", "weights": "abc"}))
    with pytest.raises(FingerprintMismatch, match="pooling: mean != cls"):
        index.check(Fingerprint({"weights": "abc", "pooling": "cls"}))


def test_what_the_index_says_of_itself(make_store):
    index = VectorIndex.build(make_store(np.eye(4)))
    assert (len(index), index.dim, index.model, index.metric) == (4, 4, "tiny", "cosine")
    assert repr(index) == "VectorIndex(4 x 4, kind='exact', metric='cosine', model='tiny')"
