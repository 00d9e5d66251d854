"""The index of contents against a dict, over runs, merges and digests that share half of their bits."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldpress.errors import StoreError
from coldpress.store import digests
from coldpress.store.digests import DigestIndex, KeyLog, hash_strings


@pytest.fixture(autouse=True)
def _small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_RECENT", 8)
    monkeypatch.setattr(digests, "_PIECE", 16)


# Few different halves, so that ties of the first 64 bits and repetitions are frequent.
HALVES = st.sampled_from(["0" * 16, "f" * 16, "0123456789abcdef", "8" + "0" * 15])
DIGESTS = st.one_of(
    st.builds("".join, st.tuples(HALVES, HALVES)), st.text("0123456789abcdef", min_size=32, max_size=32)
)


@settings(max_examples=200, deadline=None)
@given(batches=st.lists(st.lists(DIGESTS, max_size=20), max_size=20), asked=st.lists(DIGESTS, max_size=20))
def test_an_index_is_a_dict_that_keeps_the_smallest(tmp_path_factory, batches, asked):
    index, expected, row = DigestIndex(tmp_path_factory.getbasetemp()), {}, 0
    for batch in batches:
        index.add(batch, range(row, row + len(batch)))
        for digest in batch:
            expected.setdefault(digest, row)
            row += 1
        probes = [*asked, *batch]
        assert index.find(probes) == [expected.get(digest) for digest in probes]


def test_many_entries_and_nothing_left_on_disk(tmp_path: Path) -> None:
    index, names = DigestIndex(tmp_path), [f"photo {i}" for i in range(1000)]
    for start in range(0, 1000, 50):
        index.add(hash_strings(names[start : start + 50]), range(start, start + 50))
    order = random.Random(0).sample(range(1000), 1000)
    assert index.find(hash_strings([names[i] for i in order])) == order
    assert index.find(hash_strings(["none"])) == [None]
    assert index.find([]) == []
    assert not list(tmp_path.iterdir())


def test_keys_come_back_by_number(tmp_path: Path) -> None:
    log, keys = KeyLog(tmp_path), ["a", "", "ключ", "lone \\ud800", "b" * 5000]
    log.extend(keys[:2])
    log.extend([])
    log.extend(keys[2:])
    assert [log[i] for i in range(5)] == keys
    assert not list(tmp_path.iterdir())


def test_no_room_for_scratch_files_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    index = DigestIndex(tmp_path / "gone")
    with pytest.raises(StoreError, match=r"cannot be written: .*; committed shards are intact"):
        index.add(hash_strings(map(str, range(8))), range(8))
    with pytest.raises(StoreError, match="cannot be written"):
        KeyLog(tmp_path / "gone")
