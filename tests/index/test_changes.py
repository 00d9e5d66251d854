"""Rows come and go; every search answers as an index of the rows that are there would."""

from __future__ import annotations

import numpy as np
import pytest
from judge import brute_force, overlap

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.index import VectorIndex

KINDS = [{"kind": "exact"}, {"kind": "hnsw"}, {"kind": "ivf"}, {"factory": "IVF100,Flat"}]
ROWS = 12_000


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(kind.values()))
def kind(request):
    return request.param


def rows_of(make_store, vectors, rows, label="old", **more):
    keys = [f"item {row}" for row in rows]
    return make_store(vectors[rows], keys, metadata=[{"label": label}] * len(keys), **more)


def answers(index, vectors, rows, queries):
    """Share of the 10 nearest of those rows that are found."""
    _, near = brute_force(vectors[rows], queries, "cosine", 10)
    return overlap(index.search(queries, 10)[1], [[f"item {row}" for row in found] for found in np.asarray(rows)[near]])


def test_what_is_added_is_found_and_what_is_removed_is_not(make_store, vectors_in_clusters, kind, tmp_path):
    vectors, every = vectors_in_clusters, np.arange(ROWS)
    index = VectorIndex.build(rows_of(make_store, vectors, every[:9000]), **kind)
    queries = vectors[::100].astype(np.float32)
    assert index.add(rows_of(make_store, vectors, every[9000:], "new")) == 3000
    assert len(index) == ROWS
    assert answers(index, vectors, every, queries) >= 0.94
    assert index.search(queries, where="label = new")[1].shape == (120, 10)

    gone = every[::3]
    assert index.remove([f"item {row}" for row in gone] + ["nobody"]) == len(gone)
    assert index.remove(["item 0"]) == 0
    left = np.setdiff1d(every, gone)
    assert len(index) == len(left) == len(index.keys)
    assert answers(index, vectors, left, queries) >= 0.94
    with pytest.raises(ColdpressError, match="key 'item 0' is not among the 8000 keys"):
        index.search_key("item 0")
    assert "item 1" not in index.search_key("item 1", 5)[1]
    assert index.search(queries[:2], ROWS)[1].shape == (2, 8000)

    index.save(tmp_path)
    opened = VectorIndex.open(tmp_path, memory_map=True)
    assert (len(opened), opened.certificate) == (8000, index.certificate)
    assert opened.certificate.reference == "index"
    assert opened.certificate.recall_at_10 >= 0.9
    assert "compact" in opened.advice
    opened.compact()
    assert (len(opened), opened.advice) == (8000, None)
    assert answers(opened, vectors, left, queries) >= 0.94
    opened.save(tmp_path)
    assert len(list(tmp_path.glob("removed-*"))) == 0
    again = VectorIndex.open(tmp_path)
    np.testing.assert_array_equal(again.search(queries)[1], opened.search(queries)[1])
    assert again.metadata(["item 1", "item 9001"], ["label"])["label"].to_pylist() == ["old", "new"]


def test_upsert_puts_rows_in_place_of_those_with_their_keys(make_store, vectors_in_clusters, kind):
    vectors = vectors_in_clusters.copy()
    index = VectorIndex.build(rows_of(make_store, vectors, range(3000)), **kind)
    vectors[:5] = vectors[6000:6005]
    assert index.upsert(rows_of(make_store, vectors, [0, 1, 2, 3, 4, 7000], "new")) == 5
    assert len(index) == 3001
    _, keys = index.search(vectors[:5], 1)
    assert keys.ravel().tolist() == [f"item {row}" for row in range(5)]
    assert index.metadata(["item 0", "item 5"])["label"].to_pylist() == ["new", "old"]
    assert "item 0" not in index.search_key("item 0")[1]
    index.remove(["item 0"])
    assert "item 0" not in index.search(vectors[:1])[1]


def test_signs_come_and_go_too(make_store, vectors_in_clusters):
    vectors = vectors_in_clusters
    index = VectorIndex.build(rows_of(make_store, vectors, range(500), dtype="binary"))
    index.add(rows_of(make_store, vectors, range(500, 900), dtype="binary"))
    index.remove([f"item {row}" for row in range(0, 900, 2)])
    before = index.search(vectors[:9], 20)[1]
    assert not {*before.ravel()} & {f"item {row}" for row in range(0, 900, 2)}
    index.compact()
    np.testing.assert_array_equal(index.search(vectors[:9], 20)[1], before)
    assert index.certificate.recall_at_10 is None


def test_merged_parts_answer_as_one(make_store, vectors_in_clusters, kind):
    vectors, every = vectors_in_clusters, np.arange(ROWS)
    parts = [VectorIndex.build(rows_of(make_store, vectors, every[n::3], f"part {n}"), **kind) for n in range(3)]
    parts[1].remove(["item 1"])
    whole = VectorIndex.merge(parts)
    assert len(whole) == ROWS - 1
    assert answers(whole, vectors, every[every != 1], vectors[::100].astype(np.float32)) >= 0.93
    assert whole.metadata(["item 3", "item 5"])["label"].to_pylist() == ["part 0", "part 2"]
    with pytest.raises(ColdpressError, match="share keys"):
        VectorIndex.merge([whole, parts[0]])
    assert len(parts[0]) == 4000


def test_rows_of_other_spaces_are_refused_and_nothing_changes(make_store, vectors_in_clusters):
    index = VectorIndex.build(rows_of(make_store, vectors_in_clusters, range(300)))
    other = rows_of(make_store, vectors_in_clusters, range(300, 400), fingerprint={"weights": "def"})
    for change in (index.add, index.upsert, lambda store: VectorIndex.merge([index, VectorIndex.build(store)])):
        with pytest.raises(FingerprintMismatch, match="weights: abc != def"):
            change(other)
    with pytest.raises(ColdpressError, match="100 keys are in the index already, 'item 200' among them: upsert"):
        index.add(rows_of(make_store, vectors_in_clusters, range(200, 400)))
    broken = make_store(np.eye(24)[:10] - np.eye(24)[7], [f"new {n}" for n in range(10)])
    for change in (index.add, index.upsert):
        with pytest.raises(ColdpressError, match=r"'new 7' .row 7. is all zeros"):
            change(broken)
    with pytest.raises(ColdpressError, match="different things"):
        index.add(make_store(vectors_in_clusters[:1], ["new"], metadata=[{"label": 3}]))
    assert len(index) == 300
    assert not set(index.search(vectors_in_clusters[300:410], 1)[1].ravel()) - {f"item {row}" for row in range(300)}
    assert index.certificate.reference == "store"
    with pytest.raises(ColdpressError, match="no index to merge"):
        VectorIndex.merge([])


def test_rows_that_the_clusters_do_not_suit_bring_the_hint_to_rebuild(make_store):
    rng = np.random.default_rng(0)
    first = rng.normal(size=(3000, 32)) + 8 * np.eye(32)[0]
    index = VectorIndex.build(make_store(first), kind="ivf", recall=0.99)
    assert index.advice is None
    far = rng.normal(size=(9000, 32)) - 8 * np.eye(32)[0]
    index.add(make_store(far, [f"far {row}" for row in range(9000)]))
    assert index.certificate.recall_at_10 >= 0.9
    assert "build it again" in index.advice


def test_an_index_without_rows_answers_nothing(make_store, tmp_path):
    index = VectorIndex.build(make_store(np.eye(4)))
    index.remove(index.keys)
    index.save(tmp_path)
    for opened in (VectorIndex.open(tmp_path), VectorIndex.open(tmp_path, memory_map=True)):
        assert opened.search(np.eye(4), 3)[1].shape == (4, 0)
        opened.compact()
        opened.add(make_store(np.eye(4)))
        assert opened.search(np.eye(4), 1)[1].ravel().tolist() == [f"item {row}" for row in range(4)]
