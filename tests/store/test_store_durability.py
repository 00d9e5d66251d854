"""Whatever stops a run, committed shards stay, and the next run ends with the same bytes."""

import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import coldpress.store
from coldpress.errors import StoreError
from coldpress.store import EmbeddingStore, StoreWriter, manifest
from coldpress.types import Item, Outcome, Results

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import DIM, Sample

{before}
sample = Sample({{"pooled": DIM}})
with sample.open(Path(sys.argv[2]), shard_rows=20) as writer:
    print("open", flush=True)
    sample.feed(writer, 2000, chunk=7, shard_rows=20)
    writer.finish()
print("finished", flush=True)
"""


def child(path: Path, before: str = "", **options) -> subprocess.Popen:
    package = Path(coldpress.store.__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", CHILD.format(before=before), str(Path(__file__).parent), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **options)


def killed_runs(path: Path, delays_s: Sequence[float], before: str = "", more: int = 1) -> Iterator[EmbeddingStore]:
    """What each of several runs into one store leaves that is killed so long after it has committed `more` inputs."""
    reached = 0
    for delay_s in delays_s:
        process = child(path, before)
        try:
            assert process.stdout.readline() == "open\n", process.communicate()[1]
            while EmbeddingStore(path).inputs < reached + more and process.poll() is None:
                time.sleep(0.001)
            time.sleep(delay_s)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        store = EmbeddingStore(path)
        store.verify()
        assert store.inputs > reached or store.complete
        reached = store.inputs
        yield store


@settings(max_examples=25, deadline=None)
@given(stops=st.lists(st.integers(0, 34), max_size=6), chunk=st.integers(1, 12))
def test_dropping_the_writer_anywhere_changes_nothing_in_the_end(two_outputs, snapshot, stops, chunk):
    with tempfile.TemporaryDirectory() as directory:
        whole, resumed = Path(directory, "whole"), Path(directory, "resumed")
        two_outputs.build(whole)
        for stop in sorted(stops):
            with two_outputs.open(resumed) as writer:
                two_outputs.feed(writer, stop, chunk)
            assert EmbeddingStore(resumed).inputs == stop // 10 * 10
        with two_outputs.open(resumed) as writer:
            two_outputs.feed(writer, 34, chunk)
            writer.finish()
        assert snapshot(resumed) == snapshot(whole)


def test_sigkill_at_many_moments_then_resume_gives_the_same_bytes(tmp_path, sample, snapshot):
    sample.build(tmp_path / "whole", stop=2000, shard_rows=20)
    assert len(list(killed_runs(tmp_path / "killed", (0.02, 0.15, 0.09, 0.2)))) == 4
    sample.build(tmp_path / "killed", stop=2000, shard_rows=20)
    assert snapshot(tmp_path / "killed") == snapshot(tmp_path / "whole")


def test_shards_renamed_but_not_yet_in_the_manifest_are_done_again(tmp_path, sample, snapshot):
    sample.build(tmp_path / "whole")
    with sample.open(tmp_path / "out") as writer:
        sample.feed(writer, 20)
        early = (tmp_path / "out/manifest.json").read_bytes()
        sample.feed(writer, 30)
    (tmp_path / "out/manifest.json").write_bytes(early)
    (tmp_path / "out/embeddings/.part-00003.npy.tmp").write_bytes(b"half")
    (tmp_path / "out/.manifest.json.tmp").write_bytes(b"half")
    with sample.open(tmp_path / "out") as writer:
        assert writer.committed_inputs == 20
        assert not (tmp_path / "out/embeddings/part-00002.npy").exists()
        assert not (tmp_path / "out/embeddings/.part-00003.npy.tmp").exists()
        sample.feed(writer, 34)
        writer.finish()
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_a_run_killed_before_its_manifest_leaves_a_directory_that_can_be_used(tmp_path, sample):
    (tmp_path / ".lock").touch()
    (tmp_path / ".manifest.json.tmp").write_text("{")
    sample.build(tmp_path)
    assert EmbeddingStore(tmp_path).complete


def test_two_writers_are_refused_and_a_killed_one_leaves_no_lock(tmp_path, sample):
    with sample.open(tmp_path / "out"), pytest.raises(StoreError, match="another process is writing"):
        sample.open(tmp_path / "out")
    process = child(tmp_path / "other")
    try:
        assert process.stdout.readline() == "open\n", process.communicate()[1]
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreError, match="another process is writing"):
            sample.open(tmp_path / "other", shard_rows=20)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with sample.open(tmp_path / "other", shard_rows=20) as writer:
        assert writer.committed_inputs < 2000


def test_a_full_disk_stops_with_the_remedy_and_keeps_what_was_committed(tmp_path, sample, snapshot):
    # No file may grow beyond 12 KB: shards fit, the manifest stops fitting after some of them.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))"
    process = child(tmp_path / "out", before=limit)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "StoreError" in errors
    assert "cannot be written: File too large; committed shards are intact: free the space" in errors
    store = EmbeddingStore(tmp_path / "out")
    assert 0 < store.inputs < 2000
    store.verify()
    with sample.open(tmp_path / "out", shard_rows=20) as writer:
        sample.feed(writer, 2000, shard_rows=20)
        writer.finish()
    sample.build(tmp_path / "whole", stop=2000, shard_rows=20)
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_a_directory_that_may_not_be_written(tmp_path, sample):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="cannot be written: Permission denied"):
        sample.open(tmp_path / "closed/out")


def test_an_exception_inside_the_run_drops_only_the_shard_in_progress(tmp_path, sample):
    class Stop(Exception):  # noqa: N818
        pass

    def run():
        with sample.open(tmp_path / "out") as writer:
            sample.feed(writer, 25)
            raise Stop

    with pytest.raises(Stop):
        run()
    assert EmbeddingStore(tmp_path / "out").inputs == 20
    assert not list((tmp_path / "out").rglob("*.tmp"))


def retried(sample, path: Path, stop: int) -> StoreWriter:
    """A writer that is about to move the failures of the first `stop` items into a new shard."""
    sample.build(path, stop=stop)
    writer = sample.open(path)
    writer.retry()
    return writer


def good(sample, number: int) -> Results:
    """What a retry makes of an item that had failed."""
    source, vector = sample.input(number), sample.vector(number, 6)
    key = f"item-{number}"
    return Results([Item(key, "", "", {})], [source], [Outcome(key, "ok")], [None], {"pooled": vector[None]})


def test_a_shard_that_cannot_be_ended_closes_the_writer_before_a_key_gets_two_outcomes(tmp_path, sample):
    writer = retried(sample, tmp_path / "out", 10)
    obstacle = tmp_path / "out/outcomes/.part-00000.1.parquet.tmp"
    obstacle.mkdir()
    writer.write(good(sample, 2))
    with pytest.raises(StoreError, match="cannot be written"):
        writer.end_shard()
    obstacle.rmdir()
    with pytest.raises(ValueError, match="closed"):
        writer.write(good(sample, 5))
    keys = EmbeddingStore(tmp_path / "out").outcomes.column("key").to_pylist()
    assert sorted(keys) == sorted(f"item-{i}" for i in range(10))


def test_a_store_can_be_opened_while_outcomes_are_replaced(tmp_path, sample, monkeypatch):
    writer = retried(sample, tmp_path / "out", 10)
    before = (tmp_path / "out/manifest.json").read_bytes()
    writer.write(good(sample, 2))
    writer.finish()
    read, contents = manifest._manifest_content, iter([before])
    monkeypatch.setattr(manifest, "_manifest_content", lambda root: next(contents, None) or read(root))
    assert EmbeddingStore(tmp_path / "out").failed == 2


def test_scratch_files_of_a_killed_run_are_removed(tmp_path, sample):
    root = sample.build(tmp_path / "out")
    (root / ".scratch-abc").touch()
    sample.open(root).close()
    assert not (root / ".scratch-abc").exists()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not list open files")
def test_files_of_old_shards_do_not_stay_open(tmp_path, sample):
    gc.disable()
    try:
        with sample.open(tmp_path / "out") as writer:
            for number in range(60):
                results = sample.results(10 * number, 10 * number + 10)
                if number > 20:  # every row repeats one of another shard
                    n, rows = len(results.copies), writer.manifest.rows
                    copies = [rows - 1 - i * rows // n for i in range(n)]
                    results = replace(results, copies=copies, vectors={"pooled": np.zeros((0, 6), np.float32)})
                writer.write(results)
                if number == 20:
                    begin = open_files()
            assert open_files() <= begin + 10
    finally:
        gc.enable()
