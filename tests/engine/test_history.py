"""Random histories of a photo folder and its store, against a model of a few lines.

Photos come, repeat others, break and are repaired; runs end, are stopped after a shard or die between two; failures are
tried again; another store is reused. After every step the store must hold one outcome for every input and, bit for bit,
the vector that the photo has when it is embedded alone, whatever the dtype, and its patches.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from coldpress import Extractor
from coldpress.engine import Progress, Summary
from coldpress.engine.vectors import rows_of
from coldpress.errors import ItemError
from coldpress.store import EmbeddingStore
from coldpress.store.encoding import DTYPES, decode, encode
from coldpress.store.files import LOCK_NAME
from coldpress.store.manifest import MANIFEST_NAME
from coldpress.store.ragged import open_output

Paint = Callable[[Path, int], Path]
Snapshot = Callable[[Path], dict[str, bytes]]

BROKEN = -1
NAMES = st.integers(0, 99).map("{:02d}.jpg".format)
CONTENTS = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, BROKEN, BROKEN])
ENDINGS = st.sampled_from(["stopped", "dead", "strict"])
WORKERS = st.integers(1, 3)
THREADS = ("coldpress-read", "coldpress-prepare", "coldpress-write")


class DiedError(Exception):
    """Stands for whatever ends a run between two shards."""


def stop_after(shards: int) -> Callable[[], bool]:
    """What stops a run at the end of that many shards."""
    asked = count(1)
    return lambda: next(asked) >= shards


def die_at(call: int) -> Callable[[Progress], None]:
    """What makes a run die at that report of its progress."""
    calls = count(1)

    def report(_: Progress) -> None:
        if next(calls) == call:
            raise DiedError

    return report


class History(RuleBasedStateMachine):
    """`photos` says what each file holds now, `gone` what removed ones held, `failed` which keys have no row."""

    def __init__(self, extractors: Sequence[Extractor], paint: Paint, snapshot: Snapshot) -> None:
        super().__init__()
        self.extractors, self.paint, self.snapshot = extractors, paint, snapshot
        self.root = Path(tempfile.mkdtemp())
        self.folder, self.out = self.root / "photos", self.root / "store"
        self.photos: dict[str, int] = {}
        self.gone: dict[str, int] = {}
        self.failed: set[str] = set()
        self.vectors: dict[int, list[bytes]] = {}
        self.numbers = count()

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @initialize(
        shard_rows=st.integers(1, 5),
        dtype=st.sampled_from(DTYPES),
        dense=st.booleans(),
        photos=st.dictionaries(NAMES, CONTENTS, min_size=1, max_size=9),
    )
    def begin(self, shard_rows: int, dtype: str, dense: bool, photos: dict[str, int]) -> None:
        self.extractor = self.extractors[dense]
        self.shard_rows, self.dtype = shard_rows, dtype
        for name, content in photos.items():
            self.add(name, content)

    @rule(name=NAMES, content=CONTENTS)
    def add(self, name: str, content: int) -> None:
        """A new photo anywhere in the order, new or known, sound or broken."""
        if name in self.photos or name in self.gone:
            return
        self.photos[name] = content
        self.put(name)

    @precondition(lambda self: BROKEN in self.photos.values())
    @rule(data=st.data(), content=st.integers(0, 9))
    def repair(self, data: st.DataObject, content: int) -> None:
        """A broken photo becomes a sound one."""
        name = data.draw(st.sampled_from(sorted(n for n, what in self.photos.items() if what == BROKEN)))
        self.photos[name] = content
        self.put(name)

    # Until a first pass is finished its inputs are counted, not looked at: a removal and an addition among those that
    # are committed would cancel out, and the addition be seen by the next pass only.
    @precondition(lambda self: len(self.photos) > 1 and (not self.out.exists() or EmbeddingStore(self.out).complete))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """A photo goes; what the store has of it stays."""
        name = data.draw(st.sampled_from(sorted(self.photos)))
        self.gone[name] = self.photos.pop(name)
        (self.folder / name).unlink()

    @rule(workers=WORKERS, again=st.booleans())
    def run(self, workers: int, again: bool) -> None:
        """To the end of the source; a second time changes nothing."""
        before = self.outcomes()
        summary = self.embed(self.out, workers=workers, retry_failed=again)
        tried = {name for name in self.photos if name not in before or (again and before[name][0] == "failed")}
        lost = {name for name in tried if self.photos[name] == BROKEN}
        self.failed = self.failed - tried | lost
        after = self.outcomes()
        assert set(after) == before.keys() | self.photos.keys()
        assert {key for key, (status, _) in after.items() if status == "failed"} == self.failed
        assert (summary.inputs, summary.failed) == (len(after), len(self.failed))
        assert summary.retried == len({key for key in tried & before.keys() if key not in self.failed})
        assert summary.processed == len(tried - (before.keys() & self.failed))
        assert not summary.interrupted
        assert EmbeddingStore(self.out).complete
        unchanged = self.snapshot(self.out)
        assert self.embed(self.out, workers=workers).processed == 0
        assert self.snapshot(self.out) == unchanged

    @rule(workers=WORKERS, again=st.booleans(), at=st.integers(1, 4), ending=ENDINGS)
    def end_early(self, workers: int, again: bool, at: int, ending: str) -> None:
        """Stopped after a shard, or dead between two: the same command ends with the bytes of an undisturbed run."""
        whole = self.root / f"whole-{next(self.numbers)}"
        if self.out.exists():
            shutil.copytree(self.out, whole)
        self.embed(whole, workers=1, retry_failed=again)
        before = self.outcomes()
        self.interrupt(workers, again, at, ending)
        between = self.outcomes()
        assert between.keys() >= before.keys()
        assert all(between[key] == was for key, was in before.items() if was[0] != "failed" or not again)
        self.check()
        self.interrupt(1, again, 1, "stopped")
        self.check()
        self.embed(self.out, workers=workers, retry_failed=again)
        self.failed = {key for key, (status, _) in self.outcomes().items() if status == "failed"}
        assert self.snapshot(self.out) == self.snapshot(whole)
        shutil.rmtree(whole)

    @rule(workers=WORKERS, again=st.booleans(), at=st.integers(1, 4), ending=st.one_of(ENDINGS, st.just("limited")))
    def end_early_for_now(self, workers: int, again: bool, at: int, ending: str) -> None:
        """The same or a limited run, and what comes next is open."""
        self.interrupt(workers, again, at, ending)
        self.failed = {key for key, (status, _) in self.outcomes().items() if status == "failed"}

    @precondition(lambda self: self.out.exists())
    @rule(shard_rows=st.integers(1, 5), at=st.integers(1, 3))
    def reuse(self, shard_rows: int, at: int) -> None:
        """A second store takes from the first what that has, and computes the rest, at one go or in two."""
        old, other = EmbeddingStore(self.out), self.root / f"other-{next(self.numbers)}"
        known = set(old.read_metadata(["content_hash"]).column(0).to_pylist()) if len(old) else set()
        summary = self.embed(other, shard_rows=shard_rows, reuse=self.out)
        contents = {what for what in self.photos.values() if what != BROKEN}
        assert summary.computed + summary.reused == len(contents)
        assert summary.reused <= len(known)
        self.check_store(other)
        assert {key for key, (status, _) in outcomes_of(other).items() if status == "failed"} == {
            name for name, what in self.photos.items() if what == BROKEN
        }
        halves = self.root / f"halves-{next(self.numbers)}"
        self.embed(halves, shard_rows=shard_rows, reuse=self.out, should_stop=stop_after(at))
        self.embed(halves, shard_rows=shard_rows, reuse=self.out)
        assert self.snapshot(halves) == self.snapshot(other)
        shutil.rmtree(halves)
        shutil.rmtree(other)

    @invariant()
    def check(self) -> None:
        """What holds at every moment."""
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(THREADS)]
        if self.out.exists():
            self.check_store(self.out)

    def check_store(self, path: Path) -> None:
        """One outcome a key, rows that are right, first occurrences named, nothing else on disk."""
        store = EmbeddingStore(path)
        store.verify()
        outcomes = outcomes_of(path)
        assert store.inputs == len(outcomes) == len(store) + store.failed
        assert outcomes.keys() <= self.photos.keys() | self.gone.keys()
        good = [key for key, (status, _) in outcomes.items() if status != "failed"]
        assert sorted(store.keys) == sorted(good)
        photos = self.photos | self.gone
        contents = [photos[key] for key in store.keys]
        outputs = [open_output(store.root, store.manifest, output) for output in store.manifest.outputs]
        first: dict[int, str] = {}
        for row, (key, content) in enumerate(zip(store.keys, contents, strict=True)):
            assert [matrix[row].tobytes() for matrix in outputs] == self.alone(content), key
            expected = ("duplicate", first[content]) if content in first else ("ok", "")
            assert outcomes[key] == expected, key
            first.setdefault(content, key)
        listed = {name for shard in store.manifest.shards for name in shard.files}
        found = {str(entry.relative_to(path)) for entry in path.rglob("*") if entry.is_file()}
        assert found == listed | {MANIFEST_NAME, LOCK_NAME}
        values = json.loads((path / MANIFEST_NAME).read_text())
        assert (values["certificate"] is not None) == (len(store) > 0)

    def put(self, name: str) -> None:
        if self.photos[name] == BROKEN:
            self.folder.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(b"\xff\xd8 no photo")
        else:
            self.paint(self.folder / name, self.photos[name])

    def alone(self, content: int) -> list[bytes]:
        """Every output of a content embedded by itself."""
        if content not in self.vectors:
            photo = self.paint(self.root / "alone.jpg", content)
            extractor, dtype = self.extractor, self.dtype
            found = [rows_of(rows) for rows in extractor._compute(extractor._preprocess([str(photo)])).values()]
            self.vectors[content] = [decode(encode(r, dtype), dtype, r.shape[1]).tobytes() for r in found]
        return self.vectors[content]

    def outcomes(self) -> dict[str, tuple[str, str]]:
        return outcomes_of(self.out) if self.out.exists() else {}

    def embed(self, out: Path, **options: Any) -> Summary:
        return self.extractor.run(out, self.folder, **{"shard_rows": self.shard_rows, "dtype": self.dtype, **options})

    def interrupt(self, workers: int, again: bool, at: int, ending: str) -> None:
        options: dict[str, dict[str, Any]] = {
            "stopped": {"should_stop": stop_after(at)},
            "dead": {"on_progress": die_at(at)},
            "strict": {"on_error": "fail"},
            "limited": {"limit": at},
        }
        with suppress(DiedError, ItemError):
            self.embed(self.out, workers=workers, retry_failed=again, **options[ending])


def outcomes_of(path: Path) -> dict[str, tuple[str, str]]:
    """Status and reason of every key; a key that has two of them is an error."""
    entries = EmbeddingStore(path).outcomes.to_pylist()
    found = {entry["key"]: (entry["status"], entry["reason"]) for entry in entries}
    assert len(found) == len(entries)
    return found


def test_any_history_gives_one_outcome_and_the_right_vectors(
    photo_extractor: Extractor, patch_extractor: Extractor, paint: Paint, snapshot: Snapshot
) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: History([photo_extractor, patch_extractor], paint, snapshot),
        settings=settings(
            max_examples=int(os.environ.get("COLDPRESS_HISTORIES", "50")),
            stateful_step_count=10,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )
