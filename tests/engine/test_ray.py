"""A local Ray cluster of two workers writes the store that one process would have written."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from coldpress import Columns, Extractor
from coldpress.distributed import build_index, embed
from coldpress.distributed.cluster import Member
from coldpress.errors import ColdpressError
from coldpress.index import VectorIndex
from coldpress.store import EmbeddingStore

ray = pytest.importorskip("ray")

Paint = Callable[[Path, int], Path]
Snapshot = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=200 << 20,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> Path:
    for i in range(300):
        paint(tmp_path / "photos" / f"{i:03d}.jpg", i % 250)
    (tmp_path / "photos" / "100-broken.jpg").write_bytes(b"\xff\xd8 no photo")
    return tmp_path / "photos"


def workers() -> list[int]:
    """Processes of this cluster that run an actor of ours."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::Member"):
                found.append(int(entry.name))
    return found


def test_the_same_bytes_and_again_after_a_kill(photo_extractor, photos: Path, tmp_path: Path, snapshot: Snapshot):
    alone = photo_extractor.run(tmp_path / "alone", photos, shard_rows=80)
    shared = embed(photos, photo_extractor, tmp_path / "shared", ray="auto", shard_rows=80)
    assert snapshot(tmp_path / "shared") == snapshot(tmp_path / "alone")
    assert (shared.processes, shared.computed, shared.duplicates) == (2, alone.computed, 50)
    killed: list[int] = []

    def kill_one(_: object) -> None:
        if not killed:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    embed(photos, photo_extractor, tmp_path / "killed", ray="auto", shard_rows=80, on_progress=kill_one)
    assert killed
    assert snapshot(tmp_path / "killed") == snapshot(tmp_path / "alone")


def test_actors_build_the_index_that_one_process_builds(photo_extractor, photos: Path, tmp_path: Path):
    photo_extractor.run(tmp_path / "store", photos, shard_rows=80)
    store = EmbeddingStore(tmp_path / "store")
    alone = VectorIndex.build(store, kind="ivf", threads=1)
    shared = build_index(store, ray="auto", kind="ivf", part_rows=100)
    for ours, theirs in zip(shared.search(store.embeddings[:50]), alone.search(store.embeddings[:50]), strict=True):
        assert ours.tolist() == theirs.tolist()
    assert list(shared.keys) == list(store.keys)


def test_a_ray_dataset(minilm: Path, tmp_path: Path, snapshot: Snapshot):
    pytest.importorskip("pandas")
    table = pa.table({"text": [f"note {i} of {i % 7}" for i in range(300)], "id": [f"n{i}" for i in range(300)]})
    extractor, columns = Extractor(minilm, device="cpu", precision="int8"), Columns(key="id")
    source = pytest.importorskip("ray.data").from_arrow([table.slice(0, 120), table.slice(120)])
    source = source.map_batches(lambda batch: batch, batch_format="pyarrow")  # needs a CPU that no actor has taken
    embed(source, extractor, tmp_path / "store", columns=columns, shard_rows=128, should_stop=lambda: True)
    resumed = embed(source, extractor, tmp_path / "store", columns=columns, shard_rows=128)
    assert (resumed.resumed, resumed.rows) == (128, 300)
    extractor.run(tmp_path / "alone", table, columns=columns, shard_rows=128)
    ours, theirs = snapshot(tmp_path / "store"), snapshot(tmp_path / "alone")
    differing = {name for name in ours if ours[name] != theirs[name]}
    assert differing == {"manifest.json"}, "it names the source"


def test_a_cluster_without_room_is_one_error(photo_extractor, photos: Path, tmp_path: Path):
    with pytest.raises(ColdpressError, match=r"a worker needs .*: there is room for none$"):
        embed(photos, photo_extractor, tmp_path / "store", ray="auto", threads=64)


def test_the_actor_answers_with_the_reason_if_it_cannot_work():
    member = Member(b"no pickle", "cpu", 1)
    assert isinstance(member.embed(0, []), Exception)
    assert member.question(0) is None
