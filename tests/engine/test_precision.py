"""Which arithmetic runs, what its certificate says, and what becomes of a mode that fails it."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coldpress import ColdpressError, EmbeddingStore, Extractor, ImageSpec, _library, from_module
from coldpress.data import MemorySource
from coldpress.engine import Choice, Computer, candidates, certify, choose_precision, first_passing
from coldpress.engine.sample import Sample, take_sample
from coldpress.errors import FingerprintMismatch
from coldpress.types import ModelInput


@pytest.fixture(scope="module")
def int8(minilm: Path) -> Extractor:
    return Extractor(minilm, device="cpu", precision="int8")


@pytest.fixture(scope="module")
def fp32(minilm: Path) -> Extractor:
    return Extractor(minilm, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def news(shared: Path) -> list[str]:
    lines = (shared / "text" / "ag_news" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[:600]]


@pytest.fixture(scope="module")
def sample(fp32: Extractor, news: list[str]) -> Sample:
    return take_sample(fp32._preprocess, news[:64], fp32._preprocess(news[:64]), 64)


def test_int8_vectors_of_real_text_are_close(int8: Extractor, fp32: Extractor, news: list[str]) -> None:
    cosine = (int8.embed(news) * fp32.embed(news)).sum(axis=1)
    assert cosine.mean() > 0.998
    assert cosine.min() > 0.99


def test_the_yardstick_of_int8_is_the_fp32_network(int8: Extractor, fp32: Extractor, sample: Sample) -> None:
    yardstick, kernels = int8._compute.reference(sample.exact)["pooled"], fp32._compute(sample.inputs)["pooled"]
    assert np.abs(yardstick - kernels).max() < 1e-6
    assert certify(fp32._compute, sample).cosine_mean > 0.999999
    certificate = certify(int8._compute, sample)
    assert certificate.passed
    assert 0.998 < certificate.cosine_mean < 0.9999


def test_a_store_knows_its_precision(int8: Extractor, fp32: Extractor, tmp_path: Path) -> None:
    source = MemorySource([f"number {i} is {i * i}" for i in range(40)], "text")
    store = int8.embed_to(tmp_path / "store", source)
    assert store.fingerprint.fields["precision"] == "int8"
    assert store.certificate is not None
    assert store.certificate.precision == "int8"
    with pytest.raises(FingerprintMismatch, match="precision"):
        fp32.embed_to(tmp_path / "store", source)


def test_the_first_mode_that_passes_is_taken(fp32: Extractor, sample: Sample) -> None:
    class Blurred(Computer):
        """int8 at its worst: the right shape, another space."""

        def __call__(self, inputs: list[ModelInput]) -> dict[str, np.ndarray]:  # type: ignore[override,type-arg]
            noise = np.random.default_rng(0).normal(size=(len(inputs), 384)).astype(np.float32)
            return {name: rows + noise for name, rows in super().__call__(inputs).items()}

    def build(choice: Choice, kind: type[Computer] = Computer) -> Computer:
        return kind(fp32.model, fp32.outputs, torch.device("cpu"), choice.mode, layer_precision=choice.layers)

    def blurred(choice: Choice) -> Computer:
        return build(choice, Blurred if choice.mode == "int8" else Computer)

    modes = (choose_precision("int8", ("fp32", "int8")), choose_precision("fp32"))
    good = first_passing(modes, build, sample)
    assert (good.choice.mode, good.compute.precision, len(good.trials)) == ("int8", "int8", 1)
    assert good.certificate.passed
    bad = first_passing(modes, blurred, sample)
    assert (bad.choice.mode, bad.choice.layers, bad.compute.precision) == ("fp32", {}, "fp32")
    assert [trial.certificate.passed for trial in bad.trials] == [False, False, True]
    assert [trial.certificate.precision for trial in bad.trials] == ["int8", "int8", "fp32"]
    assert 0 < len(bad.trials[1].certificate.layer_precision) < 12
    assert all(trial.items_per_s > 0 for trial in bad.trials)
    assert bad.choice.reason.startswith("int8 failed its certificate (mean cosine")
    assert re.search("; int8 with .* layers in fp32 failed its certificate .*; the next mode$", bad.choice.reason)


def test_integers_are_candidates_where_they_are_faster() -> None:
    for level in _library.isa_levels():
        with _library.use_isa(level):
            modes = [choice.mode for choice in candidates("auto", ("fp32", "int16", "int8"))]
            assert modes == (["int8", "int16", "fp32"] if level == "avx512-vnni" else ["fp32"])
            asked = candidates("int8", ("fp32", "int8"))
            assert [choice.mode for choice in asked] == ["int8"]
            assert ("no faster" in asked[0].reason) == (level != "avx512-vnni")
    assert [choice.mode for choice in candidates("auto", ("fp32", "int8"), "cuda")] == ["fp32"]
    assert [choice.mode for choice in candidates("auto", ("fp32",))] == ["fp32"]


def test_what_cannot_run_is_refused() -> None:
    with pytest.raises(ColdpressError, match=r"'int8' is not available for this model on cpu; expected auto or fp32$"):
        choose_precision("int8", ("fp32",))
    with pytest.raises(ColdpressError, match="for this model on cuda"):
        choose_precision("int8", ("fp32", "int8"), "cuda")
    with pytest.raises(ColdpressError, match="'int7' is not available; expected auto or fp32, int8"):
        choose_precision("int7", ("fp32", "int8"))


@pytest.fixture
def fastest() -> str:
    return candidates("auto", ("fp32", "int8"))[0].mode


def test_auto_is_settled_by_the_data_of_a_run(minilm: Path, news: list[str], fastest: str, tmp_path: Path) -> None:
    extractor = Extractor(minilm, device="cpu")
    assert extractor.precision == "fp32"
    before = extractor.embed(news[:2])
    source = MemorySource(iter(news[:100]), "text")  # can be read once only
    summary = extractor.run(tmp_path / "store", source)
    assert (summary.precision, extractor.precision, summary.inputs) == (fastest, fastest, 100)
    assert summary.certificate is not None
    assert (summary.certificate.precision, summary.certificate.passed) == (fastest, True)
    stored = np.asarray(EmbeddingStore(tmp_path / "store").embeddings[:2], np.float32)
    assert np.array_equal(extractor.embed(news[:2]).astype(np.float16), stored.astype(np.float16))
    assert (before * stored).sum(axis=1).min() > 0.99
    assert pickle.loads(pickle.dumps(extractor)).precision == fastest


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_auto_goes_on_in_the_precision_of_the_store(
    minilm: Path, news: list[str], tmp_path: Path, precision: str, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    begun = Extractor(minilm, device="cpu", precision=precision)
    begun.run(tmp_path / "store", MemorySource(news[:50], "text"), shard_rows=20, should_stop=lambda: True)
    resumed = Extractor(minilm, device="cpu")
    assert resumed.run(tmp_path / "store", MemorySource(news[:50], "text"), shard_rows=20).resumed == 20
    assert resumed.precision == precision
    begun.run(tmp_path / "whole", MemorySource(news[:50], "text"), shard_rows=20)
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "whole")
    reusing = Extractor(minilm, device="cpu").run(
        tmp_path / "other", MemorySource(news[40:60], "text"), reuse=tmp_path / "store"
    )
    assert (reusing.precision, reusing.reused, reusing.computed) == (precision, 10, 10)


def test_auto_stays_exact_where_nothing_can_be_certified(minilm: Path, tmp_path: Path) -> None:
    extractor = Extractor(minilm, device="cpu")
    summary = extractor.run(tmp_path / "store", MemorySource([1, 2, 3], "text"))
    assert (summary.precision, summary.failed, summary.certificate) == ("fp32", 3, None)


def test_what_fast_decoding_costs_is_in_the_certificate(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for i in range(20):
        blocks = noise.integers(0, 256, (90, 120, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((960, 720), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.jpg")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 56 * 56, 32))
    spec = ImageSpec(("exact", 56, 56), None, "bicubic", 1 / 255, (0.5,) * 3, (0.5,) * 3)
    photos = sorted(tmp_path.glob("*.jpg"))
    exact = Extractor(from_module(network, spec, name="one layer"), device="cpu")
    fast = Extractor(from_module(network, spec, name="one layer"), device="cpu", fast_decode=True)
    assert exact.fingerprint.digest != fast.fingerprint.digest
    assert exact.certify(photos, samples=20).cosine_min > 0.999999
    certificate = fast.certify(photos, samples=20)
    measured = (unit(exact.embed(photos)) * unit(fast.embed(photos))).sum(axis=1)
    assert certificate.cosine_mean == pytest.approx(measured.mean(), abs=1e-5)
    assert 0.5 < certificate.cosine_mean < 0.99999


def unit(rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
