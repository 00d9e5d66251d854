"""Indices of stores that keep bytes or signs instead of floats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldpress.errors import ColdpressError
from coldpress.index import VectorIndex


def neighbours(vectors, queries, k):
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, queries)]
    return np.argsort(-(unit[1] @ unit[0].T), axis=1, kind="stable")[:, :k]


def overlap(keys, expected):
    found = [{int(key.split()[1]) for key in row} for row in keys]
    return np.mean([len(a & set(b)) / len(b) for a, b in zip(found, expected, strict=True)])


@pytest.mark.parametrize(("kind", "least"), [("exact", 0.95), ("ivf", 0.9)])
def test_int8_finds_nearly_the_neighbours_of_the_floats(make_store, vectors_in_clusters, kind, least):
    floats = vectors_in_clusters[:3000].astype(np.float32)
    index = VectorIndex.build(make_store(floats, dtype="int8", shard_rows=1000), kind=kind)
    _, keys = index.search(floats[:100], 10)
    assert overlap(keys, neighbours(floats, floats[:100], 10)) > least


@given(dim=st.sampled_from([1, 7, 8, 9, 24, 65]), rows=st.integers(1, 60), k=st.integers(1, 70))
@settings(max_examples=40, deadline=None)
def test_binary_ranks_by_the_cosine_with_the_signs(make_store, dim, rows, k):
    rng = np.random.default_rng([dim, rows])
    vectors, queries = rng.normal(size=(rows, dim)), rng.normal(size=(5, dim))
    index = VectorIndex.build(make_store(vectors, dtype="binary"))
    scores, keys = index.search(queries, k)
    signs = np.where(vectors > 0, 1, -1) / np.sqrt(dim)
    cosines = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ signs.T
    found = np.array([[int(key.split()[1]) for key in row] for row in keys])
    assert found.shape == (5, min(k, rows))
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, found, axis=1), atol=1e-5)
    best = -np.sort(-cosines, axis=1)[:, :k]  # 16 spare rows and 8 candidates for each: all of them are looked at
    np.testing.assert_allclose(scores, best, atol=1e-5)


def test_binary_over_many_rows_and_shards(make_store, vectors_in_clusters):
    rng = np.random.default_rng(0)
    wide = vectors_in_clusters.astype(np.float32) @ rng.normal(size=(24, 512)).astype(np.float32)
    index = VectorIndex.build(make_store(wide, dtype="binary", shard_rows=5000))
    assert (index.kind, len(index), index.dim) == ("binary", 12_000, 512)
    assert index.settings["recall_at_10"] is None  # below 1, and nothing to measure it with
    _, keys = index.search(wide[:100], 10)
    assert overlap(keys, neighbours(wide, wide[:100], 10)) > 0.6
    scores, keys = index.search_key("item 7", 3)
    assert "item 7" not in keys
    assert scores.shape == (3,)


def test_binary_is_saved_and_opened(tmp_path, make_store):
    vectors = np.random.default_rng(0).normal(size=(300, 20))
    index = VectorIndex.build(make_store(vectors, dtype="binary"))
    index.save(tmp_path)
    opened = VectorIndex.open(tmp_path)
    for a, b in zip(index.search(vectors[:9]), opened.search(vectors[:9]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert repr(opened) == repr(index)


@pytest.mark.parametrize("options", [{"kind": "ivf"}, {"kind": "exact"}, {"metric": "dot"}])
def test_what_signs_cannot_do_is_refused(make_store, options):
    store = make_store(np.eye(4), dtype="binary")
    with pytest.raises(ColdpressError, match=r"one bit a dimension.*dtype int8"):
        VectorIndex.build(store, **options)
