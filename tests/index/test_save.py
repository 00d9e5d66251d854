"""The index on disk: what was saved comes back, and a save that dies leaves what was there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldpress.errors import StoreError
from coldpress.index import VectorIndex

KEYS = st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1, max_size=30, unique=True)


@given(keys=KEYS, metric=st.sampled_from(["cosine", "dot"]))
@settings(max_examples=25, deadline=None)
def test_saved_and_opened_it_answers_the_same(tmp_path_factory, make_store, keys, metric):
    vectors = np.random.default_rng(len(keys)).normal(size=(len(keys), 5)).astype(np.float16)
    index = VectorIndex.build(make_store(vectors, keys), metric=metric)
    directory = tmp_path_factory.mktemp("index") / "deeper" / "index"
    index.save(directory)
    opened = VectorIndex.open(directory)
    for a, b in zip(index.search(vectors, 4), opened.search(vectors, 4), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (opened.fingerprint, opened.model, opened.metric) == (index.fingerprint, index.model, index.metric)
    assert repr(opened) == repr(index)


def test_ivf_keeps_its_settings_and_answers(tmp_path, clustered):
    index = VectorIndex.build(clustered)
    index.save(tmp_path)
    opened = VectorIndex.open(tmp_path)
    assert opened.settings == index.settings
    assert json.loads((tmp_path / "index.json").read_text())["settings"]["recall_at_10"] >= 0.95
    queries = clustered.embeddings[:100]
    for a, b in zip(index.search(queries), opened.search(queries), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(opened.search_key("item 3")[1], index.search_key("item 3")[1])


def test_saving_is_reproducible_and_leaves_nothing_else(tmp_path, make_store):
    index = VectorIndex.build(make_store(np.eye(4)))
    index.save(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    index.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    VectorIndex.build(make_store(np.eye(5))).save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert len(VectorIndex.open(tmp_path)) == 5


KILLED_SAVE = """
import os, pathlib, signal, sys
from coldpress.index import VectorIndex
from coldpress.store import EmbeddingStore

store, directory, deadly = EmbeddingStore(sys.argv[1]), sys.argv[2], int(sys.argv[3])
calls, replace = 0, pathlib.Path.replace

def kill_at(self, target):
    global calls
    if calls == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    calls += 1
    return replace(self, target)

pathlib.Path.replace = kill_at
VectorIndex.build(store).save(directory)
"""


@pytest.mark.parametrize("renames_before_death", [0, 1, 2])
def test_a_killed_save_leaves_the_old_index(tmp_path, make_store, renames_before_death):
    old = VectorIndex.build(make_store(np.eye(4)))
    old.save(tmp_path)
    store = make_store(np.eye(7), list("abcdefg"))
    command = [sys.executable, "-c", KILLED_SAVE, str(store.path), str(tmp_path)]
    killed = subprocess.run([*command, str(renames_before_death)], check=False)
    assert killed.returncode == -signal.SIGKILL
    opened = VectorIndex.open(tmp_path)
    assert len(opened) == 4
    np.testing.assert_array_equal(opened.search(np.eye(4))[1], old.search(np.eye(4))[1])
    subprocess.run([*command, "99"], check=True)
    assert VectorIndex.open(tmp_path).search(np.eye(7)[:1], 1)[1] == "a"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ["faiss", "parquet"])
@pytest.mark.parametrize("harm", ["remove", "truncate", "flip a bit"])
def test_damage_is_noticed_and_named(tmp_path, make_store, name, harm):
    VectorIndex.build(make_store(np.eye(4))).save(tmp_path)
    (path,) = tmp_path.glob(f"*.{name}")
    content = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    elif harm == "truncate":
        path.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(StoreError, match=path.name):
        VectorIndex.open(tmp_path)


def test_what_is_not_an_index_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"has no index\.json: make one with coldpress index"):
        VectorIndex.open(tmp_path)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        VectorIndex.open(tmp_path)
    (tmp_path / "index.json").write_text('{"format": "coldpress-index", "version": 99}')
    with pytest.raises(StoreError, match=r"99\), expected"):
        VectorIndex.open(tmp_path)


def test_a_directory_that_cannot_be_written_is_named(tmp_path, make_store):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot save the index"):
        VectorIndex.build(make_store(np.eye(4))).save(tmp_path / "file" / "index")
