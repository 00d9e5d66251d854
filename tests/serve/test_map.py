"""The map beside an index: drawn once, kept, and never shown over another space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coldpress import ColdpressError, EmbeddingStore, VectorIndex
from coldpress.embedding_map import EmbeddingMap, draw_map
from coldpress.errors import StoreError
from coldpress.probes.projection import project
from coldpress.serve.catalogue import Catalogue


def test_a_map_is_the_same_each_time_and_survives_saving(store: EmbeddingStore, tmp_path: Path) -> None:
    drawn = draw_map(store)
    assert np.array_equal(drawn.points, draw_map(store).points)
    assert list(drawn.keys) == list(store.keys)
    assert np.abs(drawn.points).max() == pytest.approx(1)
    assert EmbeddingMap.open(tmp_path) is None
    drawn.save(tmp_path)
    again = EmbeddingMap.open(tmp_path)
    assert again is not None
    assert (list(again.keys), again.fingerprint) == (list(drawn.keys), store.fingerprint.digest)
    assert np.array_equal(again.points, drawn.points)
    (tmp_path / "map.parquet").write_bytes(b"damaged")
    with pytest.raises(StoreError, match="index the store with --map again"):
        EmbeddingMap.open(tmp_path)


def test_numbers_alone_lie_in_the_plane_too() -> None:
    points = project(np.arange(60, dtype=np.float32)[:, None] // 20)
    assert points.shape == (60, 2)
    assert np.isfinite(points).all()


def test_neighbours_are_near_on_the_map(store: EmbeddingStore, index: Path) -> None:
    drawn = draw_map(store)
    at = dict(zip(drawn.keys, drawn.points, strict=True))
    _, keys = VectorIndex.open(index).search(np.asarray(store.embeddings[:50]), 6)
    near = np.median([np.linalg.norm(at[row[0]] - at[key]) for row in keys for key in row[1:]])
    far = np.median(np.linalg.norm(drawn.points[:50] - drawn.points[50:100], axis=1))
    assert near < far / 4


def test_a_map_of_another_space_or_of_items_that_are_gone_is_not_shown(store: EmbeddingStore, index: Path) -> None:
    opened, drawn = VectorIndex.open(index), draw_map(store)
    other = EmbeddingMap(drawn.keys, drawn.points, "another")
    assert Catalogue(opened, None, other, 1000).map is None
    opened.remove([str(key) for key in list(store.keys)[:10]])
    spots = Catalogue(opened, None, drawn, 1000).spots
    assert list(spots.keys) == list(store.keys)[10:]
    assert len(spots.points) == len(spots.columns["label"]) == 290


def test_three_points_are_no_map(store: EmbeddingStore, extractor: object, tmp_path: Path) -> None:
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    three = extractor.embed_to(tmp_path / "three.store", tmp_path / "three.txt")  # type: ignore[attr-defined]
    with pytest.raises(ColdpressError, match="at least 4 rows, the store has 3"):
        draw_map(three)
