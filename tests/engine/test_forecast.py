"""What is said of a run before it, and a run that stops in time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from coldpress import Extractor
from coldpress.data import open_source
from coldpress.distributed import embed
from coldpress.errors import SourceError
from coldpress.forecast import Budget, forecast
from coldpress.store import EmbeddingStore

Paint = Callable[[Path, int], Path]
Snapshot = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> Path:
    """120 photos; every third is a copy of an earlier one."""
    for i in range(120):
        paint(tmp_path / "photos" / f"{i:03d}.jpg", i)
    for i in range(2, 120, 3):
        shutil.copyfile(tmp_path / "photos" / f"{i - 1:03d}.jpg", tmp_path / "photos" / f"{i:03d}.jpg")
    return tmp_path / "photos"


def test_rows_bytes_repetitions_and_money(photo_extractor: Extractor, photos: Path, tmp_path: Path):
    found = forecast(photo_extractor.run, open_source(photos, modality="image"), "image", price_per_hour=3.6)
    assert (found.inputs, found.distinct, found.looked_at) == (120, 80, 120)
    assert found.source_bytes == sum(path.stat().st_size for path in photos.iterdir())
    assert found.cost == pytest.approx(found.seconds / 1000)
    assert found.cost_per_million == pytest.approx(found.cost / 120 * 1e6)
    store = photo_extractor.embed_to(tmp_path / "store", photos)
    assert found.store_bytes == pytest.approx(store.nbytes, rel=0.2)
    assert {"certify", "compute", "read", "decode"} <= found.stages.keys()
    assert found.machine_hours * 3600 == pytest.approx(found.seconds)


def test_texts_that_are_there_twice(minilm: Path, tmp_path: Path):
    source = tmp_path / "notes.txt"
    source.write_text("".join(f"note {i % 90}\n" for i in range(120)), encoding="utf-8")
    extractor = Extractor(minilm, device="cpu", precision="int8")
    found = forecast(extractor.run, open_source(source, modality="text"), "text")
    assert (found.inputs, found.distinct, found.cost, found.precision) == (120, 90, None, "int8")


def test_what_is_in_the_store_already_takes_no_time(photo_extractor: Extractor, photos: Path):
    source = open_source(photos, modality="image")
    whole, half, none = (forecast(photo_extractor.run, source, "image", done=done) for done in (0, 60, 120))
    assert (whole.inputs, half.inputs, none.inputs) == (120, 120, 120)
    assert none.seconds == none.rows_per_s == 0.0
    assert half.seconds < whole.seconds or half.stages["decode"] < whole.stages["decode"]


def test_of_several_processes(photo_extractor: Extractor, photos: Path):
    def run(out: Path, source: object, **options: object) -> object:
        return embed(source, photo_extractor, out, devices="2xcpu", **options)

    assert forecast(run, open_source(photos, modality="image"), "image").inputs == 120


def test_nothing_to_embed(photo_extractor: Extractor, tmp_path: Path):
    (tmp_path / "none.txt").write_text("", encoding="utf-8")
    with pytest.raises(SourceError, match="holds nothing to embed"):
        forecast(photo_extractor.run, open_source(tmp_path / "none.txt", modality="text"), "image")


def test_a_run_out_of_time_stops_with_a_shard_and_goes_on_later(photo_extractor, photos, tmp_path, snapshot: Snapshot):
    run = partial(photo_extractor.run, source=photos, shard_rows=50)
    run(tmp_path / "whole")
    stopped = run(tmp_path / "store", should_stop=Budget(hours=0.0))
    assert (stopped.interrupted, stopped.inputs) == (True, 50)
    assert EmbeddingStore(tmp_path / "store").inputs == 50
    assert not run(tmp_path / "store", should_stop=Budget(hours=1.0)).interrupted
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "whole")
