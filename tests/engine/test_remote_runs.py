"""The life of a store behind a URL, beside that of one on disk: the same bytes after every step of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from coldpress import Extractor, Summary, VectorIndex
from coldpress.errors import StoreError
from coldpress.store import EmbeddingStore

Paint = Callable[[Path, int], Path]
Snapshot = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> Path:
    """25 photos in shards of 7: numbers 20 to 24 have the contents of 0 to 4, which are two shards before them."""
    for i in range(25):
        paint(tmp_path / "photos" / f"{i:03d}.jpg", i % 20)
    return tmp_path / "photos"


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    name = re.sub(r"\W", "-", request.node.name)
    yield f"memory://{name}"
    fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


class Both:
    """Runs on a local store and on a remote one, which have to report the same and hold the same bytes."""

    def __init__(self, extractor: Extractor, local: Path, url: str, snapshot: Snapshot, dtype: str = "float16") -> None:
        self.extractor, self.local, self.url, self.snapshot, self.dtype = extractor, local, url, snapshot, dtype

    def __call__(self, source: Path, **options: object) -> Summary:
        options |= {"shard_rows": 7, "dtype": self.dtype}
        summaries = [self.extractor.run(out, source, **options) for out in (self.local, self.url)]
        counts = [(s.inputs, s.rows, s.computed, s.processed, s.duplicates, s.retried) for s in summaries]
        assert counts[0] == counts[1]
        expected = self.snapshot(self.local)
        del expected[".lock"]
        filesystem, base = fsspec.core.url_to_fs(self.url)
        assert {p.removeprefix(f"{base}/"): filesystem.cat_file(p) for p in filesystem.find(base)} == expected
        return summaries[1]


@pytest.mark.parametrize("dtype", ["float16", "int8", "binary"])
def test_begin_stop_resume_grow_retry(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, url: str, paint: Paint, snapshot: Snapshot, dtype: str
) -> None:
    run = Both(photo_extractor, tmp_path / "store", f"{url}/store", snapshot, dtype)
    good = {name: (photos / name).read_bytes() for name in ("003.jpg", "012.jpg")}
    for name in good:
        (photos / name).write_bytes(b"broken")
    assert run(photos, should_stop=lambda: True).interrupted
    resumed = run(photos)
    assert (resumed.resumed, resumed.inputs, resumed.duplicates, resumed.failed) == (7, 25, 4, 2)
    assert resumed.store == f"{url}/store"
    paint(photos / "000-new.jpg", 100)
    paint(photos / "copy.jpg", 5)
    grown = run(photos)
    assert (grown.processed, grown.computed, grown.duplicates) == (2, 1, 5)
    assert run(photos, retry_failed=True).retried == 0
    for name, content in good.items():
        (photos / name).write_bytes(content)
    retried = run(photos, retry_failed=True)
    assert (retried.retried, retried.failed, retried.inputs, retried.rows) == (2, 0, 27, 27)
    assert run(photos).processed == 0
    store = EmbeddingStore(f"{url}/store")
    store.verify()
    assert len(store.outcomes) == 27


def test_a_projection_is_kept_behind_the_url(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, url: str, snapshot: Snapshot
) -> None:
    extractor = Extractor(photo_extractor.model, device="cpu", pca=4)
    run = Both(extractor, tmp_path / "store", f"{url}/store", snapshot)
    assert run(photos, should_stop=lambda: True).interrupted
    assert run(photos).inputs == 25
    store = EmbeddingStore(f"{url}/store")
    store.verify()
    assert store.projection is not None
    assert store.projection.dim == store.dim == 4


def test_a_remote_store_is_reused(
    photo_extractor: Extractor, photos: Path, tmp_path: Path, url: str, paint: Paint
) -> None:
    photo_extractor.run(f"{url}/old", photos, shard_rows=7)
    for i in range(12):
        paint(tmp_path / "elsewhere" / f"x{i}.jpg", 10 + i)
    reused = photo_extractor.run(f"{url}/new", tmp_path / "elsewhere", reuse=f"{url}/old")
    assert (reused.computed, reused.reused, reused.rows) == (2, 10, 12)
    fresh = photo_extractor.embed_to(tmp_path / "fresh", tmp_path / "elsewhere")
    np.testing.assert_array_equal(np.asarray(EmbeddingStore(f"{url}/new").embeddings), np.asarray(fresh.embeddings))


def test_changed_contents_point_to_reuse_with_the_url(minilm: Path, tmp_path: Path, url: str) -> None:
    extractor, source = Extractor(minilm, device="cpu"), tmp_path / "notes.txt"
    source.write_text("one\ntwo\n", encoding="utf-8")
    extractor.run(f"{url}/store", source)
    source.write_text("zero\none\ntwo\n", encoding="utf-8")
    with pytest.raises(StoreError, match=f"{url}/store: has a vector for 'notes.txt:1'.*--reuse {url}/store"):
        extractor.run(f"{url}/store", source)


def test_an_index_of_a_remote_store(photo_extractor: Extractor, photos: Path, url: str) -> None:
    store = photo_extractor.embed_to(f"{url}/store", photos, shard_rows=7)
    index = VectorIndex.build(store)
    assert len(index) == 25
    assert index.search_key("007.jpg", 1)[1][0] != ""
