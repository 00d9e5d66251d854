"""A store that grows: what is known is copied, what is new is computed, what had failed gets another chance."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coldpress import Columns, Extractor, FingerprintMismatch
from coldpress.data import MemorySource
from coldpress.engine.todo import batches
from coldpress.errors import StoreError
from coldpress.store import EmbeddingStore, digests
from coldpress.store.files import scratch_file
from coldpress.types import FileRef, Item

Paint = Callable[[Path, int], Path]
Snapshot = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> Path:
    """25 photos; numbers 20 to 24 have the contents of 0 to 4."""
    for i in range(25):
        paint(tmp_path / "photos" / f"{i:03d}.jpg", i % 20)
    return tmp_path / "photos"


def by_key(store: EmbeddingStore) -> dict[str, bytes]:
    rows = np.asarray(store.embeddings)
    return {key: rows[i].tobytes() for i, key in enumerate(store.keys)}


def statuses(store: EmbeddingStore) -> dict[str, tuple[str, str]]:
    return {o["key"]: (o["status"], o["reason"]) for o in store.outcomes.to_pylist()}


@pytest.mark.parametrize("shard_rows", [4, 7, 1000])
def test_a_duplicate_is_computed_once_in_whichever_shard_it_is(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, shard_rows: int
) -> None:
    summary = photo_extractor.run(tmp_path / "store", photos, shard_rows=shard_rows)
    assert (summary.computed, summary.duplicates, summary.rows) == (20, 5, 25)
    store = EmbeddingStore(tmp_path / "store")
    vectors, outcome = by_key(store), statuses(store)
    for i in range(5):
        assert outcome[f"{20 + i:03d}.jpg"] == ("duplicate", f"{i:03d}.jpg")
        assert vectors[f"{20 + i:03d}.jpg"] == vectors[f"{i:03d}.jpg"]
    store.verify()


def test_only_what_is_new_is_computed(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, paint: Paint, snapshot: Snapshot
) -> None:
    out = tmp_path / "store"
    photo_extractor.run(out, photos, shard_rows=10)
    before = by_key(EmbeddingStore(out))
    again = photo_extractor.run(out, photos, shard_rows=10)
    assert (again.computed, again.processed, again.resumed) == (0, 0, 25)
    paint(photos / "000-new.jpg", 100)  # in front of the others, in the middle, at the end, and one known content
    paint(photos / "010-new.jpg", 101)
    paint(photos / "999.jpg", 102)
    paint(photos / "a" / "copy.jpg", 3)
    grown = photo_extractor.run(out, photos, shard_rows=10)
    assert (grown.computed, grown.processed, grown.resumed, grown.inputs) == (3, 4, 25, 29)
    store = EmbeddingStore(out)
    after = by_key(store)
    assert {key: after[key] for key in before} == before
    assert statuses(store)["a/copy.jpg"] == ("duplicate", "003.jpg")
    fresh = by_key(photo_extractor.embed_to(tmp_path / "fresh", photos))
    assert fresh == after
    unchanged = snapshot(out)
    photo_extractor.run(out, photos, shard_rows=10)
    assert snapshot(out) == unchanged


def test_a_grown_source_survives_a_kill_while_it_is_appended(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, paint: Paint, snapshot: Snapshot
) -> None:
    for name in ("killed", "whole"):
        photo_extractor.run(tmp_path / name, photos, shard_rows=3)
    for i in range(10):
        paint(photos / f"{i:03d}-b.jpg", 200 + i)
    stops = iter([False, True])
    stopped = photo_extractor.run(tmp_path / "killed", photos, shard_rows=3, should_stop=lambda: next(stops))
    assert stopped.interrupted
    assert stopped.inputs == 31
    assert not EmbeddingStore(tmp_path / "killed").complete
    photo_extractor.run(tmp_path / "killed", photos, shard_rows=3)
    photo_extractor.run(tmp_path / "whole", photos, shard_rows=3)
    assert snapshot(tmp_path / "killed") == snapshot(tmp_path / "whole")


def test_a_run_stops_at_the_end_of_a_shard_when_asked(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, snapshot: Snapshot
) -> None:
    stopped = photo_extractor.run(tmp_path / "stopped", photos, shard_rows=10, should_stop=lambda: True)
    assert (stopped.interrupted, stopped.inputs) == (True, 10)
    finished = photo_extractor.run(tmp_path / "stopped", photos, shard_rows=10)
    assert (finished.resumed, finished.processed, finished.interrupted) == (10, 15, False)
    photo_extractor.run(tmp_path / "whole", photos, shard_rows=10)
    assert snapshot(tmp_path / "stopped") == snapshot(tmp_path / "whole")


def test_a_source_that_changes_under_an_unfinished_run_loses_nothing(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, paint: Paint, caplog: pytest.LogCaptureFixture
) -> None:
    photo_extractor.run(tmp_path / "store", photos, shard_rows=10, should_stop=lambda: True)
    paint(photos / "000-early.jpg", 300)
    (photos / "005.jpg").unlink()
    paint(photos / "004-early.jpg", 301)
    summary = photo_extractor.run(tmp_path / "store", photos, shard_rows=10)
    assert "has changed since this store was begun" in caplog.text
    keys = set(EmbeddingStore(tmp_path / "store").keys)
    assert keys == {p.name for p in photos.iterdir()} | {"005.jpg"}
    assert summary.inputs == len(keys) == 27


def test_failures_are_tried_again_on_request(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, paint: Paint
) -> None:
    good = {name: (photos / name).read_bytes() for name in ("003.jpg", "012.jpg", "014.jpg")}
    for name in good:
        (photos / name).write_bytes(b"broken")
    out = tmp_path / "store"
    first = photo_extractor.run(out, photos, shard_rows=10)
    assert (first.inputs, first.rows, first.failed) == (25, 22, 3)
    assert photo_extractor.run(out, photos, shard_rows=10).processed == 0
    unlucky = photo_extractor.run(out, photos, shard_rows=10, retry_failed=True)
    assert (unlucky.retried, unlucky.failed, unlucky.inputs) == (0, 3, 25)
    for name in ("003.jpg", "012.jpg"):
        (photos / name).write_bytes(good[name])
    paint(photos / "100.jpg", 400)
    retried = photo_extractor.run(out, photos, shard_rows=10, retry_failed=True)
    # 003.jpg has the content of 023.jpg, which has a row by now.
    assert (retried.retried, retried.computed, retried.processed) == (2, 2, 3)
    assert (retried.inputs, retried.rows, retried.failed) == (26, 25, 1)
    store = EmbeddingStore(out)
    store.verify()
    outcome = statuses(store)
    assert len(outcome) == len(store.outcomes) == 26
    assert outcome["012.jpg"] == ("ok", "")
    assert outcome["003.jpg"] == ("duplicate", "023.jpg")
    assert outcome["014.jpg"][0] == "failed"
    assert list(store.failures()) == [("014.jpg", outcome["014.jpg"][1])]
    (photos / "014.jpg").write_bytes(good["014.jpg"])
    last = photo_extractor.run(out, photos, shard_rows=10, retry_failed=True)
    assert (last.failed, last.inputs, last.rows) == (0, 26, 26)
    assert by_key(EmbeddingStore(out)) == by_key(photo_extractor.embed_to(tmp_path / "fresh", photos))
    assert len(list((out / "outcomes").iterdir())) == len(EmbeddingStore(out).manifest.shards)


def test_another_store_is_reused_by_content(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, paint: Paint, snapshot: Snapshot
) -> None:
    photo_extractor.run(tmp_path / "old", photos, shard_rows=7)
    moved = tmp_path / "elsewhere"
    for i in range(12):
        paint(moved / f"x{i}.jpg", 10 + i)  # 10 to 19 are in the old store, 20 and 21 in none
    reused = photo_extractor.run(tmp_path / "new", moved, reuse=tmp_path / "old")
    assert (reused.computed, reused.reused, reused.duplicates, reused.rows) == (2, 10, 0, 12)
    photo_extractor.run(tmp_path / "fresh", moved)
    files, fresh = snapshot(tmp_path / "new"), snapshot(tmp_path / "fresh")
    assert {k: v for k, v in files.items() if k != "manifest.json"} == {
        k: v for k, v in fresh.items() if k != "manifest.json"
    }
    assert EmbeddingStore(tmp_path / "new").certificate is not None


def test_a_store_of_another_space_is_not_reused(
    photo_extractor: Extractor, minilm: Path, photos: Path, tmp_path: Path
) -> None:
    photo_extractor.run(tmp_path / "old", photos)
    other = Extractor(minilm, device="cpu")
    with pytest.raises(FingerprintMismatch, match="cannot be reused, its vectors are of another space"):
        other.run(tmp_path / "new", MemorySource(["a text"], "text"), reuse=tmp_path / "old")
    with pytest.raises(StoreError, match=r"cannot be reused: has .* as float16, this run needs .* as float32"):
        photo_extractor.run(tmp_path / "wide", photos, reuse=tmp_path / "old", dtype="float32")


def test_changed_texts_are_refused_and_point_to_reuse(minilm: Path, tmp_path: Path) -> None:
    extractor, source, out = Extractor(minilm, device="cpu"), tmp_path / "notes.txt", tmp_path / "store"
    source.write_text("one\ntwo\n", encoding="utf-8")
    extractor.run(out, source)
    source.write_text("one\ntwo\nthree\n", encoding="utf-8")
    assert extractor.run(out, source).processed == 1
    source.write_text("zero\none\ntwo\nthree\n", encoding="utf-8")
    with pytest.raises(StoreError, match=r"'notes.txt:1', whose content has changed since.*--reuse"):
        extractor.run(out, source)
    renewed = extractor.run(tmp_path / "renewed", source, reuse=out)
    assert (renewed.computed, renewed.reused) == (1, 3)


def test_changed_images_at_hand_are_refused(photo_extractor: Extractor, photos: Path, tmp_path: Path) -> None:
    """Bytes in memory are compared; files, whose content would have to be read for it, are passed over by name."""
    first, second = ((photos / name).read_bytes() for name in ("000.jpg", "001.jpg"))
    photo_extractor.run(tmp_path / "store", {"a": first})
    assert photo_extractor.run(tmp_path / "store", {"a": first, "b": second}).processed == 1
    with pytest.raises(StoreError, match="'a', whose content has changed since"):
        photo_extractor.run(tmp_path / "store", {"a": second})


def test_odd_keys_are_recognised_again(minilm: Path, tmp_path: Path) -> None:
    extractor, source = Extractor(minilm, device="cpu"), tmp_path / "items.jsonl"
    rows = [{"id": "lone \ud800", "text": "a"}, {"id": "NUL \0", "text": "b \ud800"}, {"id": 7, "text": ""}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for processed in (3, 0, 0):
        summary = extractor.run(tmp_path / "store", source, columns=Columns(key="id"))
        assert (summary.processed, summary.inputs) == (processed, 3)


def test_a_retry_that_is_stopped_and_repeated_ends_with_the_same_bytes(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, snapshot: Snapshot
) -> None:
    good = {f"{i:03d}.jpg": (photos / f"{i:03d}.jpg").read_bytes() for i in range(9)}
    for name in good:
        (photos / name).write_bytes(b"broken")
    for out in ("stopped", "whole"):
        photo_extractor.run(tmp_path / out, photos, shard_rows=3)
    for name in ("001.jpg", "002.jpg", "004.jpg", "007.jpg", "008.jpg"):  # those in between fail again
        (photos / name).write_bytes(good[name])
    options = {"shard_rows": 3, "retry_failed": True}
    stops = iter([True, False, True, False, False, True])
    while photo_extractor.run(
        tmp_path / "stopped", photos, should_stop=lambda: next(stops, False), **options
    ).interrupted:
        assert not EmbeddingStore(tmp_path / "stopped").complete
    photo_extractor.run(tmp_path / "whole", photos, **options)
    assert snapshot(tmp_path / "stopped") == snapshot(tmp_path / "whole")


def test_progress_reaches_the_end_when_failures_fail_again(
    photo_extractor: Extractor, photos: Path, tmp_path: Path
) -> None:
    for i in (3, 4, 20):
        (photos / f"{i:03d}.jpg").write_bytes(b"broken")
    photo_extractor.run(tmp_path / "store", photos)
    (photos / "004.jpg").write_bytes((photos / "005.jpg").read_bytes())
    seen: list[tuple[int, int | None]] = []
    photo_extractor.run(
        tmp_path / "store", photos, retry_failed=True, on_progress=lambda p: seen.append((p.done, p.total))
    )
    assert seen[-1] == (25, 25)


def test_the_first_photos_may_all_be_broken(photo_extractor: Extractor, photos: Path, tmp_path: Path) -> None:
    for i in range(9):
        (photos / f"{i:03d}.jpg").write_bytes(b"broken")
    stops = iter([False, True])
    photo_extractor.run(tmp_path / "store", photos, shard_rows=4, should_stop=lambda: next(stops))
    store = EmbeddingStore(tmp_path / "store")
    assert (store.failed, len(store), store.certificate) == (8, 0, None)
    photo_extractor.run(tmp_path / "store", photos, shard_rows=4)
    certificate = photo_extractor.embed_to(tmp_path / "whole", photos, shard_rows=4).certificate
    assert certificate is not None
    assert certificate == EmbeddingStore(tmp_path / "store").certificate
    # What is reused vouches for nothing as long as nothing is taken from it.
    for i in range(9, 25):
        (photos / f"{i:03d}.jpg").write_bytes(b"broken")
    assert photo_extractor.embed_to(tmp_path / "none", photos, reuse=tmp_path / "whole").certificate is None


def test_failures_with_odd_keys_are_tried_again(minilm: Path, tmp_path: Path) -> None:
    extractor, source = Extractor(minilm, device="cpu"), tmp_path / "items.jsonl"
    columns = Columns(key="id")
    source.write_text(json.dumps({"id": "lone \ud800", "text": 7}) + "\n", encoding="utf-8")
    assert extractor.run(tmp_path / "store", source, columns=columns).failed == 1
    source.write_text(json.dumps({"id": "lone \ud800", "text": "seven"}) + "\n", encoding="utf-8")
    summary = extractor.run(tmp_path / "store", source, columns=columns, retry_failed=True)
    assert (summary.retried, summary.failed, summary.inputs) == (1, 0, 1)


@pytest.mark.parametrize("shard_rows", [1, 10])
def test_two_failures_of_one_key_are_two_inputs(
    photo_extractor: Extractor, paint: Paint, tmp_path: Path, shard_rows: int
) -> None:
    source, options = tmp_path / "items.jsonl", {"shard_rows": shard_rows, "columns": Columns(key="id")}
    files = [str(tmp_path / name) for name in ("one.jpg", "two.jpg")]
    source.write_text("".join(json.dumps({"id": "same", "image": file}) + "\n" for file in files), encoding="utf-8")
    assert photo_extractor.run(tmp_path / "store", source, **options).failed == 2
    shutil.copytree(tmp_path / "store", tmp_path / "both")
    paint(Path(files[0]), 1)
    one = photo_extractor.run(tmp_path / "store", source, retry_failed=True, **options)
    assert (one.inputs, one.rows, one.failed) == (2, 1, 1)
    paint(Path(files[1]), 2)
    both = photo_extractor.run(tmp_path / "both", source, retry_failed=True, **options)
    assert (both.inputs, both.rows, both.failed) == (2, 2, 0)


def test_a_store_that_is_reused_is_only_read(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_extractor.run(tmp_path / "old", photos)
    used = []
    monkeypatch.setattr(digests, "_RECENT", 4)
    monkeypatch.setattr(digests, "scratch_file", lambda path: used.append(path) or scratch_file(path))
    photo_extractor.run(tmp_path / "new", photos, reuse=tmp_path / "old")
    assert set(used) == {tmp_path / "new"}


@pytest.mark.parametrize("part", ["metadata", "outcomes"])
def test_a_damaged_store_is_refused_by_name(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, part: str
) -> None:
    photo_extractor.run(tmp_path / "store", photos)
    damaged = tmp_path / "store" / part / "part-00000.parquet"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    with pytest.raises(StoreError, match=rf"{part}/part-00000.parquet: cannot be read: .*; restore it, or embed again"):
        photo_extractor.run(tmp_path / "store", photos)


def test_photos_of_a_tar_wait_for_their_look_up_in_small_numbers() -> None:
    large = [Item(str(i), bytes(10_000_000)) for i in range(10)]
    assert [len(batch) for batch in batches(iter(large))] == [4, 4, 2]
    files = [Item(str(i), FileRef("a.jpg")) for i in range(2000)]
    assert [len(batch) for batch in batches(iter(files))] == [1024, 976]
