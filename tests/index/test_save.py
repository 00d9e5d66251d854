"""The index on disk: what was saved comes back, and a save that dies leaves what was there."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldpress.errors import StoreError
from coldpress.index import VectorIndex
from coldpress.index.files import save_directory

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


# Imports once, then changes and saves the index in a fork for each line it reads, until it is killed or done.
LAUNCHER = """
import os, sys
import numpy as np
from coldpress.index import VectorIndex
from coldpress.store import EmbeddingStore
directory, stores = sys.argv[1], [EmbeddingStore(path) for path in sys.argv[2:]]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        for store in stores:
            index = VectorIndex.open(directory, memory_map=line.strip() == "mapped")
            if store.keys[0] in index.keys:
                index.remove(list(store.keys))
            else:
                index.add(store)
            if len(index) == 300:
                index.compact()
            index.save(directory)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def test_kills_at_any_moment_leave_the_index_as_before_or_after_a_change(tmp_path, make_store):
    vectors = np.random.default_rng(0).normal(size=(900, 16))
    base, *stores = (
        make_store(vectors[start : start + 300], [f"{start + row}" for row in range(300)]) for start in (0, 300, 600)
    )
    VectorIndex.build(base, kind="ivf").save(tmp_path / "index")
    command = [sys.executable, "-c", LAUNCHER, tmp_path / "index", *(store.path for store in stores)]
    draw, seen, killed = random.Random(0), set(), 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        durations, number = [], 0
        while killed < 8 or (len(seen) < 2 and number < 60):
            print(("mapped", "loaded")[number % 2], file=process.stdin, flush=True)
            pid, begin, number = int(process.stdout.readline()), time.monotonic(), number + 1
            if number <= 2:  # undisturbed, to know when to kill the others
                assert process.stdout.readline() == "0\n"
                durations.append(time.monotonic() - begin)
                continue
            time.sleep(draw.uniform(0, 1.5 * max(durations)))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed += int(process.stdout.readline()) == signal.SIGKILL
            index = VectorIndex.open(tmp_path / "index")
            keys = sorted(int(key) for key in index.keys)
            starts = {key // 300 for key in keys}
            assert keys == [key for start in sorted(starts) for key in range(300 * start, 300 * start + 300)]
            seen.add(tuple(sorted(starts)))
            for key in (keys[0], keys[-1]):
                assert index.search(vectors[key : key + 1], 1)[1][0, 0] == str(key)
        process.stdin.close()
    assert len(seen) >= 2, "some saves must have come to their end"


def test_a_reader_meets_a_saver_again_and_again(tmp_path, make_store):
    stores = [make_store(np.eye(8)[:rows]) for rows in (4, 8)]
    indices = [VectorIndex.build(store) for store in stores]
    indices[0].save(tmp_path)
    stop = threading.Event()

    def save_until_told():
        while not stop.is_set():
            for index in indices:
                index.save(tmp_path)

    savers = [threading.Thread(target=save_until_told) for _ in range(2)]
    for saver in savers:
        saver.start()
    try:
        lengths, end = Counter(), time.monotonic() + 30
        while (lengths.total() < 100 or len(lengths) < 2) and time.monotonic() < end:
            lengths[len(VectorIndex.open(tmp_path))] += 1
    finally:
        stop.set()
        for saver in savers:
            saver.join()
    assert set(lengths) == {4, 8}


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf"])
def test_a_mapped_index_answers_the_same_while_it_is_replaced(tmp_path, clustered, kind):
    index = VectorIndex.build(clustered, kind=kind)
    index.save(tmp_path)
    mapped = VectorIndex.open(tmp_path, memory_map=True)
    queries = clustered.embeddings[:50]
    expected, near = index.search(queries), index.search_key("item 4")[1]
    index.remove(["item 3"])
    index.compact()
    index.save(tmp_path)
    for a, b in zip(expected, mapped.search(queries), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(mapped.search_key("item 4")[1], near)


def test_a_removal_does_not_write_the_vectors_again(tmp_path, clustered):
    VectorIndex.build(clustered).save(tmp_path)
    before = {path.name: path.stat().st_ino for path in tmp_path.glob("*-*")}
    index = VectorIndex.open(tmp_path)
    index.remove(["item 3"])
    index.save(tmp_path)
    after = {path.name: path.stat().st_ino for path in tmp_path.glob("*-*")}
    assert {name: after.get(name) for name in before} == before
    assert len(after) == len(before) + 1
    index.save(tmp_path / "copy")
    assert len(VectorIndex.open(tmp_path / "copy")) == len(index) == 11_999


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


def test_what_a_full_disk_has_taken_of_a_save_is_given_back(tmp_path, make_store):
    old = VectorIndex.build(make_store(np.eye(4)))
    old.save(tmp_path)
    before = sorted(tmp_path.iterdir())

    def write(path):
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match="No space left on device"):
        save_directory(tmp_path, {}, {"index.faiss": write})
    assert sorted(tmp_path.iterdir()) == before
    assert len(VectorIndex.open(tmp_path)) == 4


def test_a_directory_that_cannot_be_written_is_named(tmp_path, make_store):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot save the index"):
        VectorIndex.build(make_store(np.eye(4))).save(tmp_path / "file" / "index")
