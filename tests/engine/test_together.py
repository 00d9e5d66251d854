"""Several backbones over one source: the stores of runs apart, byte for byte, with every image decoded once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from coldpress import Extractor, ImageSpec, embed_together, from_module
from coldpress.data import MemorySource
from coldpress.errors import ColdpressError, FingerprintMismatch, StoreError
from coldpress.preprocess.image import ImagePreprocessor
from coldpress.preprocess.shared import shared
from coldpress.together import store_names
from coldpress.types import ImageInput

Paint = Callable[[Path, int], Path]
Snapshot = Callable[[Path], dict[str, bytes]]


def network(name: str, edge: int, crop: int, resample: str, **options: Any) -> Extractor:
    torch.manual_seed(edge)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * crop * crop, 12))
    spec = ImageSpec(("shortest_edge", edge), (crop, crop), resample, 1 / 255, (0.5,) * 3, (0.5,) * 3)
    return Extractor(from_module(module, spec, name=name), device="cpu", **options)


@pytest.fixture(scope="module")
def extractors() -> list[Extractor]:
    return [
        network("some/small", 9, 8, "bilinear"),
        network("large", 14, 10, "bicubic"),
        network("mine/small", 9, 8, "bilinear"),
    ]


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> Path:
    """26 photos, some of them repeated, broken, or not JPEG."""
    folder = tmp_path / "photos"
    for i in range(26):
        paint(folder / f"{i:03d}.jpg", i % 19)
    (folder / "004.jpg").write_bytes(b"\xff\xd8 no photo")
    (folder / "011.jpg").write_bytes(b"")
    for i in (7, 12):
        Image.open(folder / f"{i:03d}.jpg").save(folder / f"{i:03d}.png")
    return folder


def stop_after(shards: int) -> Callable[[], bool]:
    asked = count(1)
    return lambda: next(asked) >= shards


def apart(extractors: list[Extractor], out: Path, source: Any, **options: Any) -> None:
    for name, extractor in zip(NAMES, extractors, strict=True):
        extractor.run(out / name, source, shard_rows=7, **options)


NAMES = ["small", "large", "small-2"]


def test_the_stores_are_those_of_runs_apart(
    extractors: list[Extractor], photos: Path, tmp_path: Path, snapshot: Snapshot
) -> None:
    summaries = embed_together(extractors, tmp_path / "out", photos, shard_rows=7, workers=2)
    apart(extractors, tmp_path / "apart", photos)
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "apart")
    assert list(summaries) == NAMES
    assert [(s.inputs, s.failed, s.processed) for s in summaries.values()] == [(28, 2, 28)] * 3
    again = embed_together(extractors, tmp_path / "out", photos, shard_rows=7)
    assert [s.processed for s in again.values()] == [0, 0, 0]
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "apart")


@pytest.mark.parametrize("ahead", [(0, 0, 0), (1, 0, 2), (2, 1, 1), (4, 0, 1)])
def test_stopped_anywhere_and_resumed_they_have_the_same_bytes(
    extractors: list[Extractor], photos: Path, tmp_path: Path, snapshot: Snapshot, ahead: tuple[int, ...]
) -> None:
    """Each store has another number of shards: more than a kill can bring about."""
    apart(extractors, tmp_path / "apart", photos)
    for name, extractor, shards in zip(NAMES, extractors, ahead, strict=True):
        if shards:
            extractor.run(tmp_path / "out" / name, photos, shard_rows=7, should_stop=stop_after(shards))
    stopped = embed_together(extractors, tmp_path / "out", photos, shard_rows=7, should_stop=lambda: True)
    assert all(s.interrupted for s in stopped.values() if s.inputs < 28)
    embed_together(extractors, tmp_path / "out", photos, shard_rows=7)
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "apart")


def test_a_run_that_dies_in_one_network_is_resumed_in_all(
    extractors: list[Extractor], photos: Path, tmp_path: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart(extractors, tmp_path / "apart", photos)
    calls, whole = count(1), extractors[1]._compute.__class__.__call__

    def die(computer: Any, inputs: Any) -> Any:
        if computer is extractors[1]._compute and next(calls) == 5:
            raise KeyboardInterrupt
        return whole(computer, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(extractors[1]._compute.__class__, "__call__", die)
        with pytest.raises(KeyboardInterrupt):
            embed_together(extractors, tmp_path / "out", photos, shard_rows=7)
    embed_together(extractors, tmp_path / "out", photos, shard_rows=7)
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "apart")


def test_a_grown_source_and_second_chances(
    extractors: list[Extractor], photos: Path, tmp_path: Path, paint: Paint, snapshot: Snapshot
) -> None:
    shutil.copytree(photos, tmp_path / "before")
    embed_together(extractors, tmp_path / "out", photos, shard_rows=7)
    apart(extractors, tmp_path / "apart", photos)
    paint(photos / "000-new.jpg", 50)
    paint(photos / "004.jpg", 51)
    for options in ({}, {"retry_failed": True}):
        summaries = embed_together(extractors, tmp_path / "out", photos, shard_rows=7, **options)
        apart(extractors, tmp_path / "apart", photos, **options)
        assert [s.processed for s in summaries.values()] == [1] * 3
        assert snapshot(tmp_path / "out") == snapshot(tmp_path / "apart")


def test_an_image_is_decoded_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three networks and the same calls of the decoder as for one, with the pixels of each alone."""
    specs = [
        ImageSpec(("shortest_edge", 9), (8, 8), "bilinear", 1, (0,) * 3, (1,) * 3),
        ImageSpec(("exact", 20, 11), None, "bicubic", 1, (0,) * 3, (1,) * 3),
        ImageSpec(None, (5, 30), "nearest", 1, (0,) * 3, (1,) * 3, crop_rounding="even"),
        ImageSpec(("shortest_edge", 6), None, "lanczos", 1, (0,) * 3, (1,) * 3),
    ]
    contents = [path.read_bytes() for path in sorted(photos.iterdir())]
    alone = [ImagePreprocessor(spec)(contents) for spec in specs]
    decoded: list[int] = []
    real = ImagePreprocessor.decode
    monkeypatch.setattr(
        ImagePreprocessor, "decode", lambda self, source: decoded.append(hasattr(source, "data")) or real(self, source)
    )
    together = shared([ImagePreprocessor(spec) for spec in specs])(contents, [lambda hashes: [False] * len(hashes)] * 4)
    for ours, theirs in zip(together, alone, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert type(a) is type(b)
            if isinstance(a, ImageInput):
                assert (a.content_hash, a.pixels.tobytes(), a.pixels.shape) == (
                    b.content_hash,
                    b.pixels.tobytes(),
                    b.pixels.shape,
                )
            else:
                assert a == b
    assert sum(decoded) == 2 + 1 + 4  # two PNG files once; of the broken one everybody says why


def test_texts_go_through_several_models(minilm: Path, tmp_path: Path, snapshot: Snapshot) -> None:
    source = MemorySource([f"text {i % 30}" for i in range(50)], "text")
    both = [Extractor(minilm, device="cpu"), Extractor(minilm, device="cpu", prompt="query: ", output="cls")]
    embed_together(both, tmp_path / "out", source, shard_rows=20)
    for name, extractor in zip(("model", "model-2"), both, strict=True):
        extractor.run(tmp_path / "apart" / name, source, shard_rows=20)
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "apart")


def test_what_does_not_go_together(extractors: list[Extractor], minilm: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ColdpressError, match="got models of image and text, expected models that take the same"):
        embed_together([extractors[0], Extractor(minilm, device="cpu")], tmp_path / "out", photos)
    extractors[0].run(tmp_path / "one", photos)
    with pytest.raises(StoreError, match="is a store of one model, expected a directory for several"):
        embed_together(extractors, tmp_path / "one", photos)
    embed_together(extractors[:2], tmp_path / "out", photos)
    with pytest.raises(FingerprintMismatch, match="small"):
        embed_together([extractors[1], network("small", 8, 8, "bilinear")], tmp_path / "out", photos)


def test_names_of_stores() -> None:
    assert store_names(["/a/b/dinov2-small/", "hub/CLIP", "clip", "w.safetensors", "..", "ä b"]) == [
        "dinov2-small",
        "CLIP",
        "clip-2",
        "w.safetensors",
        "model",
        "b",
    ]
