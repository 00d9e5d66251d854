"""Searches among the rows that meet a condition: k of them come back, and they are the nearest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.compute as pc
import pytest
from judge import nearest_keys, overlap

from coldpress.errors import ColdpressError
from coldpress.index import VectorIndex

ROWS = 24_000
KINDS = [{"kind": "exact"}, {"kind": "hnsw"}, {"kind": "ivf"}, {"factory": "IVF200,SQ8"}]


@pytest.fixture(scope="module")
def labelled(make_store):
    """24,000 vectors around 300 centres: `cluster` is the centre, `part` and `number` do not know of it."""
    rng = np.random.default_rng(3)
    cluster = rng.integers(0, 300, ROWS)
    vectors = (rng.normal(size=(300, 24))[cluster] + 0.5 * rng.normal(size=(ROWS, 24))).astype(np.float16)
    number = rng.integers(0, 100, ROWS)
    metadata = [
        {"cluster": f"c{c}", "part": "rest" if n >= 60 else "most", "number": int(n), "even": bool(n % 2 == 0)}
        for c, n in zip(cluster, number, strict=True)
    ]
    metadata[5] = {}
    return make_store(vectors, metadata=metadata, shard_rows=8000), vectors, cluster, number


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(kind.values()))
def index(labelled, request):
    return VectorIndex.build(labelled[0], **request.param)


@pytest.mark.parametrize("most", [1, 20, 60, 95])
def test_the_nearest_that_meet_a_condition_are_found(index, labelled, most):
    _, vectors, _, number = labelled
    number = np.where(np.arange(ROWS) == 5, -1, number)
    rows = np.flatnonzero((number < most) & (number >= 0))
    queries = vectors[:200].astype(np.float32) + 0.1
    scores, keys = index.search(queries, 10, where=f"number < {most}")
    assert keys.shape == (200, 10)
    assert {*keys.ravel()} <= {f"item {row}" for row in rows}
    assert (np.diff(scores, axis=1) <= 0).all()
    assert overlap(keys, nearest_keys(vectors, queries, 10, rows)) >= 0.94


def test_a_condition_far_from_the_query_is_met_all_the_same(index, labelled):
    _, vectors, cluster, _ = labelled
    wanted = [f"c{number}" for number in range(150, 300)]
    rows = np.flatnonzero((cluster >= 150) & (np.arange(ROWS) != 5))
    queries = vectors[cluster < 100][:100].astype(np.float32)
    _, keys = index.search(queries, 10, where={"cluster": wanted})
    assert overlap(keys, nearest_keys(vectors, queries, 10, rows)) >= 0.85


def test_fewer_rows_than_k_come_back_when_no_more_meet_the_condition(index, labelled):
    _, vectors, cluster, number = labelled
    rows = np.flatnonzero((cluster == 7) & (number == 3))
    scores, keys = index.search(vectors[:3], 1000, where={"cluster": "c7", "number": 3})
    assert scores.shape == keys.shape == (3, len(rows))
    assert {*keys[0]} == {f"item {row}" for row in rows}
    assert index.search(vectors[:3], 5, where={"cluster": "none such"})[1].shape == (3, 0)


def test_ways_to_say_the_same(index, labelled):
    queries = labelled[1][:5]
    expected = index.search(queries, where=["part = most", "number >= 30", "even != true"])[1]
    for where in (
        {"part": "most", "number": {">=": "30"}, "even": False},
        (pc.field("part") == "most") & (pc.field("number") >= 30) & ~pc.field("even"),
    ):
        np.testing.assert_array_equal(index.search(queries, where=where)[1], expected)
    assert index.search(queries, 3, where={"key": ["item 9", "item 8"]})[1].shape == (5, 2)
    assert index.search(queries, 3, where={"part": None})[1].ravel().tolist() == ["item 5"] * 5


def test_null_and_lists_are_asked_for_and_excluded(make_store):
    metadata = [{"part": part} for part in ("a", "b", None, "c", "a", None)]
    index = VectorIndex.build(make_store(np.eye(6, dtype=np.float32), metadata=metadata))

    def rows(where):
        return sorted(int(key.split()[1]) for key in index.search(np.ones((1, 6)), 6, where=where)[1][0])

    assert rows({"part": None}) == rows({"part": {"=": None}}) == [2, 5]
    assert rows({"part": {"!=": None}}) == [0, 1, 3, 4]
    assert rows({"part": {"!=": ["a", "c"]}}) == [1]
    assert rows({"part": {"=": ["a", "c"]}}) == [0, 3, 4]
    for value in (None, ["a"]):
        with pytest.raises(ColdpressError, match=r"'part' <= .*expected one value to compare with"):
            rows({"part": {"<=": value}})


def test_the_values_of_a_column_are_those_of_all_rows_that_can_be_found(labelled, make_store):
    metadata = [{"kind": "rare" if row == 4321 else f"k{row % 3}", "id": str(row)} for row in range(5000)]
    index = VectorIndex.build(make_store(labelled[1][:5000], metadata=metadata, shard_rows=2000))
    assert index.choices(50) == {"kind": ["k0", "k1", "k2", "rare"]}
    index.remove(["item 4321", *(f"item {row}" for row in range(0, 900, 3))])
    assert index.choices(50) == {"kind": ["k1", "k2", "k0"]}
    assert index.choices(2) == {}


def test_long_expressions_are_told_apart(index, labelled):
    names = [f"item {row}" for row in range(200)]
    for hidden in ("item 50", "item 60"):
        shown = [name for name in names if name != hidden]
        assert hidden not in index.search(labelled[1][50:61:10], 199, where=pc.field("key").isin(shown))[1]


def test_searches_of_several_threads_do_not_meet(index, labelled):
    asked = [{"k": k, "where": where} for k in (1, 10, 50) for where in (None, "part = rest", {"number": 7})]
    alone = [index.search(labelled[1][:20], **one)[1] for one in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: index.search(labelled[1][:20], **one)[1], asked * 5))
    for number, keys in enumerate(together):
        np.testing.assert_array_equal(keys, alone[number % len(asked)])


def test_neighbours_of_a_stored_item_that_meet_a_condition(index):
    _, keys = index.search_key("item 7", 5, where="part = rest")
    assert len(keys) == 5
    assert "item 7" not in keys
    assert index.metadata(list(keys))["part"].to_pylist() == ["rest"] * 5


def test_signs_are_filtered_too(labelled, make_store):
    store, vectors, _, _ = labelled
    parts = store.metadata.select(["part"]).slice(0, 500).to_pylist()
    signs = make_store(vectors[:500], dtype="binary", metadata=parts)
    index = VectorIndex.build(signs)
    _, keys = index.search(vectors[:5], 400, where="part = rest")
    assert {*index.metadata(list(keys[0]))["part"].to_pylist()} == {"rest"}
    assert keys.shape[1] == sum(row["part"] == "rest" for row in parts)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("words > 100", {2}),
        ("words <= 40", {0, 1}),
        ({"words": {">=": 40, "<": 1000}}, {1, 2}),
        ("words = 40", {1}),
        ("day > 2026-06-09", {2}),
        ("version < 9", {0, 1}),
    ],
)
def test_numbers_of_a_csv_file_are_ordered_as_numbers(make_store, where, found):
    rows = [("9", "2026-06-01", "10.1.0"), ("40", "2026-06-02", "2.0.1"), ("200", "2026-06-10", "9.3.2")]
    metadata = [dict(zip(("words", "day", "version"), row, strict=True)) for row in rows] + [{"words": ""}]
    index = VectorIndex.build(make_store(np.eye(4, dtype=np.float32), metadata=metadata), kind="exact")
    _, keys = index.search(np.ones((1, 4), np.float32), where=where)
    assert {*keys[0]} == {f"item {row}" for row in found}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("colour = red", "no metadata column 'colour', expected one of: key, source, num_tokens, truncated, cluster"),
        ("number < few", "column 'number', which holds int64, with 'few'"),
        ("number", "expected COLUMN = VALUE"),
        ({"number": {"~": 3}}, "expected operators among"),
        ([], "no condition"),
        (pc.field("colour") == 3, "cannot be evaluated"),
    ],
)
def test_what_is_no_condition_is_named(labelled, where, message):
    index = VectorIndex.build(labelled[0], kind="exact")
    with pytest.raises(ColdpressError, match=message):
        index.search(labelled[1][:1], where=where)


def test_metadata_is_saved_with_the_index(index, labelled, tmp_path):
    index.save(tmp_path)
    opened = VectorIndex.open(tmp_path)
    assert opened.columns == index.columns == ("source", "num_tokens", "truncated", "cluster", "part", "number", "even")
    queries = labelled[1][:5]
    found = [searched.search(queries, where="part = rest")[1] for searched in (opened, index)]
    np.testing.assert_array_equal(*found)
    assert opened.metadata(["item 5", "item 2"]).to_pylist() == index.metadata(["item 5", "item 2"]).to_pylist()
    with pytest.raises(ColdpressError, match="key 'nobody'"):
        opened.metadata(["nobody"])
