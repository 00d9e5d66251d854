"""Shards are moved into segments as they become many; nothing that a reader or a later run sees depends on it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from test_store_durability import killed_runs

from coldpress.errors import StoreError
from coldpress.store import EmbeddingStore, manifest, segments, writer
from coldpress.types import Outcome, Results

FEW = (16, 8, 4)
"""Levels that 34 items in shards of one or two reach all of."""


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "LEVELS", FEW)


def shards_of(store: EmbeddingStore) -> list:
    return [(shard.inputs, shard.rows, shard.failed, shard.duplicates, shard.files) for shard in store.manifest.shards]


def test_a_store_of_many_shards_reads_like_one_with_a_plain_list(tmp_path, sample, monkeypatch):
    many = EmbeddingStore(sample.build(tmp_path / "many", shard_rows=1))
    monkeypatch.setattr(segments, "LEVELS", (1 << 20,))
    plain = EmbeddingStore(sample.build(tmp_path / "plain", shard_rows=1))
    assert [(s.first, s.count) for s in many.manifest.shards.segments] == [(0, 16), (16, 16)]
    assert len(many.manifest.shards.tail) == 2
    assert not plain.manifest.shards.segments
    assert shards_of(many) == shards_of(plain)
    assert many.manifest.shards.totals == plain.manifest.shards.totals
    assert many.manifest.shards[-1] == plain.manifest.shards[33]
    assert list(many.keys) == list(plain.keys)
    np.testing.assert_array_equal(np.asarray(many.embeddings), np.asarray(plain.embeddings))
    assert many.outcomes.equals(plain.outcomes)
    many.verify()


def test_a_plain_list_of_an_older_version_is_read_and_continued(tmp_path, sample, snapshot, monkeypatch):
    monkeypatch.setattr(segments, "LEVELS", (1 << 20,))
    with sample.open(tmp_path / "old", shard_rows=1) as writer:
        sample.feed(writer, 21, shard_rows=1)
    assert json.loads((tmp_path / "old" / "manifest.json").read_text())["format_version"] == 1
    monkeypatch.setattr(segments, "LEVELS", FEW)
    assert EmbeddingStore(tmp_path / "old").inputs == 21
    sample.build(tmp_path / "old", shard_rows=1)
    assert snapshot(tmp_path / "old") == snapshot(sample.build(tmp_path / "new", shard_rows=1))
    assert json.loads((tmp_path / "old" / "manifest.json").read_text())["format_version"] == 2


def test_what_is_written_per_commit_does_not_grow(tmp_path, sample):
    """The manifest lists less than a block of the smallest size, and few segments of each."""
    sizes = []
    with sample.open(tmp_path / "store", shard_rows=1) as writer:
        for stop in range(1, 200):
            sample.feed(writer, stop, shard_rows=1)
            if stop % 16 == 15:
                sizes.append((tmp_path / "store" / "manifest.json").stat().st_size)
    assert len(list((tmp_path / "store" / "shards").iterdir())) == 12 + 1  # of 196: twelve of 16, one of 4
    assert max(np.diff(sizes)) < 400, "a segment more, not shards"


def test_a_failure_that_succeeds_later_leaves_its_sealed_shard(tmp_path, sample, snapshot):
    def failed_then_good(path: Path, *, again: int) -> EmbeddingStore:
        sample.build(path, stop=40, shard_rows=2)
        for _ in range(again):
            with sample.open(path, shard_rows=2) as writer:
                keys = sorted(writer.retry(), key=lambda key: int(key.split("-")[1]))[:3]
                for key in keys:
                    i = int(key.split("-")[1])
                    writer.write(good_again(sample, i))
                writer.finish()
        store = EmbeddingStore(path)
        store.verify()
        return store

    before = failed_then_good(tmp_path / "before", again=0)
    after = failed_then_good(tmp_path / "after", again=2)
    assert (after.inputs, after.failed) == (before.inputs, before.failed - 6)
    assert sorted(after.outcomes.column("key").to_pylist()) == sorted(before.outcomes.column("key").to_pylist())
    listed = {segment.name for segment in after.manifest.shards.segments}
    assert {f"shards/{file.name}" for file in (tmp_path / "after" / "shards").iterdir()} == listed
    failed_then_good(tmp_path / "same", again=2)
    assert snapshot(tmp_path / "same") == snapshot(tmp_path / "after")


def good_again(sample, i: int) -> Results:
    results = sample.results(i, i + 1)
    vectors = {name: sample.vector(i, dim)[None] for name, dim in sample.dims.items()}
    outcomes = [Outcome(f"item-{i}", "ok")]
    return replace(results, inputs=[sample.input(i)], outcomes=outcomes, copies=[None], vectors=vectors)


def test_sigkill_while_segments_are_written_and_merged(tmp_path, sample, snapshot):
    sample.build(tmp_path / "whole", stop=2000, shard_rows=20)
    levels = f"from coldpress.store import segments; segments.LEVELS = {FEW}"
    runs = killed_runs(tmp_path / "killed", (0.0, 0.07, 0.02), levels, more=300)
    states = {len(store.manifest.shards.segments) for store in runs}
    sample.build(tmp_path / "killed", stop=2000, shard_rows=20)
    assert snapshot(tmp_path / "killed") == snapshot(tmp_path / "whole")
    assert len(states) > 1


KILLED_AT = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import DIM, Sample
from coldpress.store import manifest, segments, writer
segments.LEVELS = {levels}
def dies(*_):
    os._exit(9)
{where}
sample = Sample({{"pooled": DIM}})
sample.build(Path(sys.argv[2]), shard_rows=1)
"""


@pytest.mark.parametrize(
    "where",
    [
        "segments.write_atomically = dies",
        "do = segments.write_segment\nsegments.write_segment = lambda *a: (do(*a), dies())",
        "do = writer.write_manifest\nwriter.write_manifest = lambda *a: dies() if a[1].shards.segments else do(*a)",
        "do = writer.write_manifest\nwriter.write_manifest = lambda *a: (do(*a), a[1].shards.segments and dies())",
    ],
    ids=["before a segment", "after a segment", "before the manifest", "before merged ones are removed"],
)
def test_a_death_at_each_step_leaves_no_trace(tmp_path, sample, snapshot, where):
    program = KILLED_AT.format(levels=FEW, where=where)
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path / "killed")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 9
    EmbeddingStore(tmp_path / "killed").verify()
    sample.build(tmp_path / "killed", shard_rows=1)
    assert snapshot(tmp_path / "killed") == snapshot(sample.build(tmp_path / "whole", shard_rows=1))


def test_damage_to_a_segment_is_named(tmp_path, sample):
    path = sample.build(tmp_path / "store", shard_rows=1)
    name = EmbeddingStore(path).manifest.shards.segments[0].name
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:-1])
    with pytest.raises(StoreError, match=name):
        EmbeddingStore(path)
    (path / name).unlink()
    with pytest.raises(StoreError, match=f"{name}: cannot be read: .*No such file"):
        EmbeddingStore(path)
    (path / name).write_bytes(content)
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"first": 16', '"first": 15'))
    with pytest.raises(StoreError, match=r"damaged .*does not follow"):
        EmbeddingStore(path)


def test_a_store_too_large_to_be_listed_is_continued_behind_a_killed_run(tmp_path, sample, snapshot, monkeypatch):
    for module in (manifest, writer):
        monkeypatch.setattr(module, "ALL_CHECKED", 10)
    with sample.open(tmp_path / "killed", shard_rows=1) as opened:
        sample.feed(opened, 21, shard_rows=1)
    segment = f"shards/00000000-00000020-{'a' * 16}.parquet"
    for leftover in ("embeddings/part-00021.npy", "embeddings/.part-00021.npy.tmp", segment):
        (tmp_path / "killed" / leftover).write_bytes(b"half")
    sample.build(tmp_path / "killed", shard_rows=1)
    assert snapshot(tmp_path / "killed") == snapshot(sample.build(tmp_path / "whole", shard_rows=1))


def test_behind_a_url_the_same_files(tmp_path, sample, snapshot):
    expected = snapshot(sample.build(tmp_path / "local", shard_rows=1))
    del expected[".lock"]
    for stop in (17, 30):
        with sample.open("memory://many-shards", shard_rows=1) as opened:
            sample.feed(opened, stop, shard_rows=1)
    sample.build("memory://many-shards", shard_rows=1)
    filesystem = fsspec.filesystem("memory")
    found = {path.removeprefix("/many-shards/"): filesystem.cat_file(path) for path in filesystem.find("/many-shards")}
    filesystem.rm("/many-shards", recursive=True)
    assert found == expected
