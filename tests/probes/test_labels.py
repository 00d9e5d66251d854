"""Where labels come from, and which of them are refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldpress.errors import ColdpressError
from coldpress.probes import read_labels


@pytest.fixture
def store(make_store):
    return make_store(np.zeros((4, 2)), label=["ant", None, "bee", "ant"], year=[1, 2, None, 1], note=[""] * 4)


def write(path, pairs):
    if path.suffix == ".csv":
        pd.DataFrame(pairs, columns=["key", "label"], dtype=object).to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"key": key, "label": label, "more": 1}) + "\n" for key, label in pairs))
    else:
        keys, labels = zip(*pairs, strict=True)
        pq.write_table(pa.table({"key": keys, "label": labels}), path)
    return path


def test_a_column_with_gaps(store):
    labels = read_labels(store, "label")
    assert labels.rows.tolist() == [0, 2, 3]
    assert labels.values.tolist() == ["ant", "bee", "ant"]
    assert (labels.missing, labels.unknown) == (1, 0)
    assert read_labels(store, "year").values.dtype == np.int64


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("classes", [("ant", "bee"), (0, 1), ("01", "1")], ids=["text", "numbers", "zero-padded"])
def test_a_file_is_joined_by_key(store, tmp_path, suffix, classes):
    one, two = classes
    path = write(
        tmp_path / f"labels{suffix}", [("item 3", one), ("failed.jpg", two), ("item 0", two), ("item 1", None)]
    )
    for given in (path, str(path)):
        labels = read_labels(store, given)
        assert labels.rows.tolist() == [0, 3]
        assert labels.values.tolist() == [two, one]
        assert (labels.missing, labels.unknown) == (2, 1)


def test_a_mapping_and_a_sequence(store):
    assert read_labels(store, {"item 2": "x"}).rows.tolist() == [2]
    assert read_labels(store, [1, 2, None, float("nan")]).values.tolist() == [1, 2]
    assert read_labels(store, np.array(["a", "", "b", "c"])).rows.tolist() == [0, 2, 3]
    assert read_labels(store, pd.Series(["a", pd.NA, None, "c"])).rows.tolist() == [0, 3]
    assert read_labels(store, pd.Series([1, 2, np.nan, 3])).values.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            "species",
            r"neither a metadata column \(there are key, .*, label, year, note\) nor a file ending in \.csv",
        ),
        ("missing.csv", "cannot be read"),
        ("note", "holds no label at all"),
        ([1.5, 2, 3, 4], r"holds the label 1\.5, expected classes"),
        ([1, 2], "got 2 labels for 4 rows"),
        ({"a.jpg": 1}, r"labels none of the 4 keys of the store \('a\.jpg' there, 'item 0' in the store\)"),
        ({}, "labels none of the 4 keys"),
    ],
)
def test_unusable_labels_are_refused(store, labels, message):
    with pytest.raises(ColdpressError, match=message):
        read_labels(store, labels)


def test_contradictory_and_malformed_files_are_refused(store, tmp_path):
    twice = write(tmp_path / "twice.csv", [("item 0", "ant"), ("item 0", "bee")])
    with pytest.raises(ColdpressError, match=r"twice\.csv gives key 'item 0' the labels 'ant' and 'bee'"):
        read_labels(store, twice)
    for name, content in (("a.csv", "key,class\n1,2\n"), ("a.jsonl", '{"key": "item 0"}\n')):
        (tmp_path / name).write_text(content)
        with pytest.raises(ColdpressError, match="has no column 'label'"):
            read_labels(store, tmp_path / name)
    for name, content in (("b.jsonl", "[1]\n"), ("c.jsonl", "{"), ("b.parquet", "no")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ColdpressError, match="cannot be read"):
            read_labels(store, tmp_path / name)
