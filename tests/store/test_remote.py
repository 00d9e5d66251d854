"""A store behind a URL has the bytes of one on disk, whatever fails on the way to it."""

from __future__ import annotations

import gc
import json
import os
import pickle
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from bucket_filesystem import Bucket

import coldpress.store
from coldpress import _urls
from coldpress.errors import StoreError
from coldpress.store import EmbeddingStore, is_store, remote

CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
import bucket_filesystem
from conftest import DIM, Sample

sample = Sample({"pooled": DIM})
with sample.open(sys.argv[2], shard_rows=20) as writer:
    print("open", flush=True)
    sample.feed(writer, int(sys.argv[3]), chunk=7, shard_rows=20)
    writer.finish()
"""


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made, also by the processes that these tests kill."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    Bucket.tell()
    yield f"bucket://{tmp_path}/bucket"
    Bucket.tell()


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> Iterator[str]:
    name = re.sub(r"\W", "-", request.node.name)
    yield f"memory://{name}"
    if fsspec.filesystem("memory").exists(f"/{name}"):
        fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


def remote_files(url: str) -> dict[str, bytes]:
    filesystem, base = fsspec.core.url_to_fs(url)
    return {path.removeprefix(base).lstrip("/"): filesystem.cat_file(path) for path in filesystem.find(base)}


def without_lock(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name != ".lock"}


def child(url: str, stop: int = 2000) -> subprocess.Popen[str]:
    package = Path(coldpress.store.__file__).parents[2]
    env = {
        **os.environ,
        "TMPDIR": tempfile.gettempdir(),
        "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), url, str(stop)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


@pytest.mark.parametrize("outputs", ["sample", "two_outputs"])
def test_the_files_are_those_of_a_local_store(tmp_path, memory, bucket, snapshot, outputs, request):
    sample = request.getfixturevalue(outputs)
    expected = without_lock(snapshot(sample.build(tmp_path / "local")))
    for url in (f"{memory}/store", bucket):
        sample.build(url)
        assert remote_files(url) == expected


def test_everything_is_read_back(tmp_path, memory, sample):
    store, local = EmbeddingStore(sample.build(f"{memory}/store")), EmbeddingStore(sample.build(tmp_path / "local"))
    store.verify()
    assert (store.path, local.path) == (f"{memory}/store", tmp_path / "local")
    assert (len(store), store.inputs, store.nbytes) == (len(local), local.inputs, local.nbytes)
    np.testing.assert_array_equal(np.asarray(store.embeddings), np.asarray(local.embeddings))
    np.testing.assert_array_equal(store.embeddings[[20, 1, 8]], local.embeddings[[20, 1, 8]])
    assert list(store.keys) == list(local.keys)
    assert store.metadata == local.metadata
    assert store.outcomes == local.outcomes
    assert list(store.failures()) == list(local.failures())
    assert store.row("item-9") == local.row("item-9")


def test_one_shard_is_a_memmap_and_no_rows_are_fine(memory, sample):
    assert isinstance(EmbeddingStore(sample.build(f"{memory}/one", stop=9)).embeddings, np.memmap)
    assert EmbeddingStore(sample.build(f"{memory}/none", stop=0)).embeddings.shape == (0, 6)


def test_stores_and_matrices_can_be_pickled(memory, sample):
    store = EmbeddingStore(sample.build(memory))
    whole = np.asarray(store.embeddings)
    copied, matrix = pickle.loads(pickle.dumps((store, store.embeddings)))
    np.testing.assert_array_equal(np.asarray(copied.embeddings), whole)
    np.testing.assert_array_equal(matrix[5:20], whole[5:20])


@pytest.mark.parametrize("how", ["refused", "cut off", "short"])
def test_a_failure_at_any_upload_keeps_what_is_committed_and_the_next_run_ends_the_same(
    tmp_path, bucket, sample, snapshot, how
):
    expected = without_lock(snapshot(sample.build(tmp_path / "local")))
    reached = set()
    for upload in range(2 if how == "short" else 1, 100):
        url = f"{bucket}/{upload}"
        Bucket.tell(fail_at=upload, how=how)
        try:
            sample.build(url)
            break
        except StoreError as error:
            message = str(error)
        assert re.fullmatch(f"{url}: cannot be written: .*; committed shards are intact: .*", message)
        Bucket.tell()
        if is_store(url):
            store = EmbeddingStore(url)
            store.verify()
            reached.add(store.inputs)
        sample.build(url)
        assert remote_files(url) == expected
    # The lock, 4 shards of 3 files, and the manifest at the beginning and with each of them, twice each.
    assert upload == 1 + 4 * 3 + 5 * 2 + 1
    assert reached >= {0, 10, 20, 30}


def test_uploaded_shards_that_no_manifest_lists_are_removed(tmp_path, bucket, sample):
    with sample.open(bucket) as writer:
        sample.feed(writer, 20)
    root = tmp_path / "bucket"
    (root / "embeddings/part-00002.npy").write_bytes(b"part of a shard")
    (root / "outcomes/part-00000.1.parquet").write_bytes(b"an outcome of a retry that was killed")
    with sample.open(bucket) as writer:
        assert writer.committed_inputs == 20
        assert not (root / "embeddings/part-00002.npy").exists()
        assert not (root / "outcomes/part-00000.1.parquet").exists()


def test_sigkill_at_many_moments_then_resume_gives_the_same_bytes(tmp_path, bucket, sample, snapshot):
    sample.build(tmp_path / "whole", stop=2000, shard_rows=20)
    reached = 0
    for delay_s in (0.02, 0.25, 0.11, 0.33):
        process = child(bucket)
        try:
            assert process.stdout.readline() == "open\n", process.communicate()[1]
            while EmbeddingStore(bucket).inputs == reached and process.poll() is None:
                time.sleep(0.001)
            time.sleep(delay_s)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        store = EmbeddingStore(bucket)
        store.verify()
        assert (store.inputs > reached and (tmp_path / "bucket/.lock").exists()) or store.complete
        reached = store.inputs
    sample.build(bucket, stop=2000, shard_rows=20)
    assert remote_files(bucket) == without_lock(snapshot(tmp_path / "whole"))


class TestLock:
    def test_two_writers_are_refused_with_who_and_since_when(self, memory, sample):
        with sample.open(memory), pytest.raises(StoreError) as caught:
            sample.open(memory)
        message = f"{memory}: process {os.getpid()} on host {platform.node()}, since 20"
        assert str(caught.value).startswith(message)
        assert f"or, if it is gone, delete {memory}/.lock and run again" in str(caught.value)
        with sample.open(memory):
            pass
        assert ".lock" not in remote_files(memory)

    def test_a_stopped_process_holds_it_and_a_killed_one_does_not(self, bucket, sample):
        process = child(bucket)
        try:
            assert process.stdout.readline() == "open\n", process.communicate()[1]
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(StoreError, match=f"process {process.pid} on host"):
                sample.open(bucket, shard_rows=20)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        with sample.open(bucket, shard_rows=20) as writer:
            assert writer.committed_inputs < 2000

    @pytest.mark.parametrize("content", ['{"host": "elsewhere", "pid": 1, "started": "1", "time": "today"}', '{"ho'])
    def test_one_of_another_machine_stays_until_it_is_deleted(self, memory, sample, content):
        fsspec.filesystem("memory").pipe_file(f"{memory}/.lock", content.encode())
        with pytest.raises(StoreError, match="is writing to this store; wait for it to end, or, if it is gone, delete"):
            sample.build(memory)
        fsspec.filesystem("memory").rm_file(f"{memory}/.lock")
        sample.build(memory)

    def test_a_writer_that_has_lost_it_stops_before_its_next_commit(self, memory, sample):
        with sample.open(memory) as first:
            sample.feed(first, 10)
            fsspec.filesystem("memory").rm_file(f"{memory}/.lock")
            with sample.open(memory) as second:
                with pytest.raises(StoreError, match="lock was deleted or replaced while this process was writing"):
                    sample.feed(first, 20)
                sample.feed(second, 34)
                second.finish()
        assert EmbeddingStore(memory).complete


class TestMirror:
    @staticmethod
    def parts(scratch: Path) -> int:
        return len([path for path in scratch.rglob("*.*") if path.is_file() and path.name != ".lock"])

    def test_it_holds_a_few_files_however_large_the_store(self, scratch, memory, sample, monkeypatch):
        monkeypatch.setattr(remote, "_KEPT_BYTES", 0)
        monkeypatch.setattr(remote, "_KEPT_FILES", 3)
        with sample.open(memory, shard_rows=5) as writer:
            for stop in range(5, 200, 5):
                sample.feed(writer, stop, shard_rows=5)
                assert self.parts(scratch) <= 4  # the manifest and three
            writer.finish()
        store = EmbeddingStore(memory)
        np.testing.assert_array_equal(np.asarray(store.embeddings), store.embeddings[np.arange(len(store))])
        store.verify()
        assert self.parts(scratch) <= 7

    def test_it_goes_with_its_store_and_not_with_a_fork(self, scratch, memory, sample):
        store = EmbeddingStore(sample.build(memory))
        store.embeddings[3]
        gc.collect()
        (mirror,) = scratch.iterdir()
        if (pid := os.fork()) == 0:
            del store
            gc.collect()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert mirror.exists()
        del store
        gc.collect()
        assert not list(scratch.iterdir())

    def test_that_of_a_killed_process_goes_with_the_next_store(self, scratch, memory, bucket, sample):
        process = child(bucket)
        assert process.stdout.readline() == "open\n", process.communicate()[1]
        process.send_signal(signal.SIGSTOP)
        (left,) = scratch.glob("coldpress-store-*")
        for signalled, exists in ((signal.SIGSTOP, True), (signal.SIGKILL, False)):
            process.send_signal(signalled)
            if not exists:
                process.communicate()
            os.utime(left, (0, 0))
            sample.build(f"{memory}/{exists}")
            assert left.exists() == exists

    def test_a_file_that_arrives_short_is_no_vector(self, bucket, sample):
        store = EmbeddingStore(sample.build(bucket))
        Bucket.short_downloads = True
        with pytest.raises(StoreError, match=r"part-00001.npy: cannot be read: \d+ of \d+ bytes arrived"):
            store.embeddings[8]
        Bucket.short_downloads = False
        assert store.embeddings[8].shape == (6,)


def test_a_file_url_is_a_path(tmp_path, sample, snapshot):
    sample.build(f"file://{tmp_path}/url")
    assert EmbeddingStore(f"file://{tmp_path}/url").path == tmp_path / "url"
    assert snapshot(tmp_path / "url") == snapshot(sample.build(tmp_path / "path"))


class TestRefusals:
    def test_missing_packages_and_unknown_urls(self, sample):
        if not any(name in sys.modules for name in ("gcsfs",)):
            with pytest.raises(StoreError, match=r"^gs://bucket/store: .*install gcsfs"):
                EmbeddingStore("gs://bucket/store")
        for url, words in (
            ("nonsense://x", "Protocol not known: nonsense"),
            ("simplecache::memory://x", "chained URL"),
            ("memory://nothing/here", "no such directory"),
        ):
            with pytest.raises(StoreError, match=words):
                EmbeddingStore(url)
            assert not is_store(url)

    def test_a_place_of_something_else_is_left_alone(self, memory, sample):
        filesystem = fsspec.filesystem("memory")
        filesystem.pipe_file(f"{memory}/holiday.jpg", b"not yours")
        with pytest.raises(StoreError, match=r"is not empty and not a store \(it has 'holiday.jpg'"):
            sample.build(memory)
        with pytest.raises(StoreError, match="is a file, expected a directory"):
            sample.build(f"{memory}/holiday.jpg")
        assert remote_files(memory) == {"holiday.jpg": b"not yours"}

    @pytest.mark.parametrize("name", ["embeddings/part-00002.npy", "outcomes/part-00003.parquet"])
    def test_damage_is_named(self, tmp_path, bucket, sample, name):
        path = tmp_path / "bucket" / name
        whole = Path(sample.build(bucket).removeprefix("bucket://"), name).read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(StoreError, match=f"{bucket}/{name}: damaged: .* bytes, expected"):
            EmbeddingStore(bucket)
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(StoreError, match=f"{bucket}/{name}: damaged: sha256"):
            EmbeddingStore(bucket).verify()
        path.unlink()
        with pytest.raises(StoreError, match=f"{bucket}/{name}: cannot be read: No such file"):
            EmbeddingStore(bucket)

    def test_a_filesystem_that_cannot_be_asked_is_not_an_empty_one(self, bucket, sample, monkeypatch):
        monkeypatch.setattr(_urls, "FIRST_PATIENCE_S", 0.2)
        monkeypatch.setattr(_urls, "PATIENCE_S", 0.2)
        before = remote_files(sample.build(bucket))

        def unreachable(*_: Any, **__: Any) -> None:
            raise ConnectionError("nobody there")

        for call in ("info", "ls", "cat_file"):
            with monkeypatch.context() as patch:
                patch.setattr(Bucket, call, unreachable)
                with pytest.raises(StoreError, match="nobody there"):
                    sample.build(bucket)
        assert remote_files(bucket) == before


def test_the_manifest_is_read_while_it_is_being_replaced(tmp_path, bucket, sample):
    sample.build(bucket)
    manifest, spare = tmp_path / "bucket/manifest.json", tmp_path / "bucket/.manifest.json.tmp"
    whole = manifest.read_bytes()
    for torn in (b"", whole[:100], None):
        spare.write_bytes(whole)
        manifest.unlink() if torn is None else manifest.write_bytes(torn)
        assert EmbeddingStore(bucket).complete
        with sample.open(bucket) as writer:
            assert writer.committed_inputs == 34
        assert manifest.read_bytes() == whole
        assert not spare.exists()
    spare.write_bytes(whole[:100])
    assert json.loads(whole)["complete"]
    with sample.open(bucket):
        assert not spare.exists()
