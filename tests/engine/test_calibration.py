"""int8 that learns ranges from the data: what is learnt belongs to the space, and stays with the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from coldpress import EmbeddingStore, Extractor, ImageSpec, from_module
from coldpress.data import MemorySource
from coldpress.errors import ColdpressError, FingerprintMismatch, ItemError

pytest.importorskip("openvino")

SPEC = ImageSpec(("exact", 24, 32), None, "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3)
Images = list[npt.NDArray[np.uint8]]


def extractor(precision: str = "int8", threads: int | None = None) -> Extractor:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 64, 5, stride=2), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3))
    return Extractor(from_module(network, SPEC, name="mine"), device="cpu", precision=precision, threads=threads)


def pictures(count: int, seed: int, brightest: int = 256) -> Images:
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, brightest, (count, 4, 4, 3), dtype=np.uint8)
    return [image.repeat(6, 0).repeat(8, 1) for image in coarse]


def test_nothing_is_embedded_before_data_have_been_seen() -> None:
    with pytest.raises(ColdpressError, match=r"has to see some data first: call certify\(items\) or embed a source"):
        extractor().embed(pictures(2, 0))
    with pytest.raises(ItemError, match="none of the first items"):
        extractor().run("unused", MemorySource([1, 2], "image"))


def test_what_was_learnt_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    first, second = extractor(), extractor()
    first.embed_to(tmp_path / "store", MemorySource(pictures(40, 0), "image"))
    second.certify(pictures(40, 1, brightest=60))
    assert first.fingerprint.digest != second.fingerprint.digest
    (difference,) = first.fingerprint.diff(second.fingerprint)
    assert difference == "calibration: int8 with ranges of other data (--reuse takes over those of a store)"
    again = EmbeddingStore(tmp_path / "store").fingerprint
    assert again.digest == first.fingerprint.digest
    with pytest.raises(FingerprintMismatch):
        extractor("fp32").embed_to(tmp_path / "store", MemorySource(pictures(40, 0), "image"))
    assert "calibration" not in extractor("fp32").fingerprint.fields


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_a_store_is_continued_in_the_same_arithmetic(
    tmp_path: Path, snapshot: Callable[[Path], dict[str, bytes]], precision: str
) -> None:
    images = pictures(60, 0)
    begun = extractor()
    begun.run(tmp_path / "store", MemorySource(images, "image"), shard_rows=40, should_stop=lambda: True)
    resumed = extractor(precision, threads=1)
    assert resumed.run(tmp_path / "store", MemorySource(images, "image"), shard_rows=40).resumed == 40
    begun.run(tmp_path / "whole", MemorySource(images, "image"), shard_rows=40)
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "whole")
    brighter = [*images[:5], *pictures(20, 2)]
    reusing = extractor(precision).run(tmp_path / "other", MemorySource(brighter, "image"), reuse=tmp_path / "store")
    assert (reusing.precision, reusing.reused, reusing.computed) == ("int8", 5, 20)


def test_a_copy_knows_what_was_learnt() -> None:
    ours = extractor()
    assert ours.certify(pictures(40, 0)).passed
    fields = ours.fingerprint.fields
    theirs = Extractor(extractor().model, device="cpu", precision="int8", calibration=fields["calibration"])
    assert theirs.fingerprint.digest == ours.fingerprint.digest
    assert np.array_equal(theirs.embed(pictures(9, 3)), ours.embed(pictures(9, 3)))


def test_the_description_of_a_store_has_what_was_learnt(tmp_path: Path) -> None:
    """So that an index of it can be searched."""
    store = extractor().embed_to(tmp_path / "store", MemorySource(pictures(40, 0), "image"))
    described = {name: value for name, value in store.description.items() if name != "model"}
    again = Extractor(extractor().model, device="cpu", **described)
    assert again.fingerprint.digest == store.fingerprint.digest


def test_the_modes_are_compared_on_the_same_sample() -> None:
    ours = extractor("auto")
    trials = ours.compare(pictures(40, 0))
    assert [trial.mode for trial in trials][-1] == "fp32"
    assert all(trial.certificate.cosine_mean > 0.99 for trial in trials)
