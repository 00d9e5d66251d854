"""Outcomes, duplicates, certificates and refusals of a run on real weights."""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from coldpress import ColdpressError, Extractor, FingerprintMismatch, ImageSpec, from_module
from coldpress.data import MemorySource
from coldpress.engine import Computer, certify, parse_outputs
from coldpress.engine.certificate import neighbour_overlap, require
from coldpress.engine.sample import take_sample
from coldpress.engine.stages import Background, ordered_map
from coldpress.engine.summary import bottleneck
from coldpress.errors import CertificateError, ItemError
from coldpress.types import ModelInput


@pytest.fixture(scope="module")
def extractor(minilm: Path) -> Extractor:
    return Extractor(minilm, device="cpu")


def test_duplicates_keep_their_row_and_name_the_first(extractor: Extractor, tmp_path: Path) -> None:
    source = tmp_path / "lines.txt"
    source.write_text("one\ntwo\none\n\none\n", encoding="utf-8")
    store = extractor.embed_to(tmp_path / "store", source)
    outcomes = store.outcomes.to_pylist()
    assert [o["status"] for o in outcomes] == ["ok", "ok", "duplicate", "ok", "duplicate"]
    assert outcomes[2]["reason"] == "lines.txt:1"
    assert len(store) + store.failed == store.inputs == 5
    rows = np.asarray(store.embeddings)
    assert np.array_equal(rows[0], rows[2])
    assert np.array_equal(rows[0], rows[4])


def test_a_vector_with_nan_is_a_failed_item(tmp_path: Path) -> None:
    class Fragile(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.log(pixels.mean(dim=(2, 3)) - 0.5)

    spec = ImageSpec(("exact", 8, 8), None, "bilinear", 1 / 255, (0.0,) * 3, (1.0,) * 3)
    extractor = Extractor(from_module(Fragile(), spec, name="fragile"), device="cpu")
    bright, dark = np.full((8, 8, 3), 200, np.uint8), np.full((8, 8, 3), 10, np.uint8)
    store = extractor.embed_to(tmp_path / "store", [bright, dark, bright + 1])
    assert [o["status"] for o in store.outcomes.to_pylist()] == ["ok", "failed", "ok"]
    assert np.isfinite(np.asarray(store.embeddings)).all()
    with pytest.raises(ItemError, match="item 1: the vector holds NaN"):
        extractor.embed([bright, dark])


def test_on_error_fail_stops_and_names_the_item(extractor: Extractor, tmp_path: Path) -> None:
    source = tmp_path / "items.jsonl"
    source.write_text('{"text": "river bank"}\n{"text": 7}\n', encoding="utf-8")
    with pytest.raises(ItemError, match=r"items\.jsonl:2"):
        extractor.run(tmp_path / "store", source, on_error="fail")


def test_another_space_is_refused_with_what_differs(extractor: Extractor, minilm: Path, tmp_path: Path) -> None:
    source = tmp_path / "lines.txt"
    source.write_text("one\n", encoding="utf-8")
    extractor.run(tmp_path / "store", source)
    other = Extractor(minilm, device="cpu", prompt="query: ", output="cls")
    with pytest.raises(FingerprintMismatch, match=r"preprocessing\.prompt: '' != 'query: '"):
        other.run(tmp_path / "store", source)


def test_several_outputs_come_from_one_pass(minilm: Path, tmp_path: Path) -> None:
    extractor = Extractor(minilm, device="cpu", precision="fp32", output="pooled,cls,layer:3")
    store = extractor.embed_to(tmp_path / "store", [("a", "first"), ("b", "second")], dtype="float32")
    assert store.outputs == ("pooled", "cls", "layer:3")
    single = Extractor(minilm, device="cpu", precision="fp32", output="layer:3").embed(["first", "second"])
    assert np.array_equal(np.asarray(store.output("layer:3")), single)


def test_the_certificate_is_measured_and_refuses(minilm: Path) -> None:
    extractor = Extractor(minilm, device="cpu", precision="fp32")
    texts = [f"text number {i} about {i * i}" for i in range(30)]
    inputs = take_sample(extractor._preprocess, texts, extractor._preprocess(texts), 30)
    certificate = certify(extractor._compute, inputs)
    assert certificate.passed
    assert certificate.samples == 30
    assert 0 < certificate.max_abs_error < 1e-5

    class Noisy(Computer):
        def __call__(self, batch: Sequence[ModelInput]) -> dict[str, npt.NDArray[np.float32]]:
            noise = np.random.default_rng(0).normal(size=(len(batch), 384)).astype(np.float32)
            return {name: values + noise for name, values in super().__call__(batch).items()}

    noisy = Noisy(extractor.model, extractor.outputs, extractor.device)
    refused = certify(noisy, inputs)
    assert not refused.passed
    with pytest.raises(CertificateError, match="too far from the fp32 reference"):
        require(refused)


def test_neighbour_overlap() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 8))
    assert neighbour_overlap(rows, rows, 5) == 1.0
    assert neighbour_overlap(rows, rows[::-1], 5) < 0.5


def test_what_a_caller_can_get_wrong(extractor: Extractor, minilm: Path, tmp_path: Path) -> None:
    with pytest.raises(ColdpressError, match="expected a list of items"):
        extractor.embed("one text")
    with pytest.raises(ItemError, match="item 1 cannot be embedded: not a text but int"):
        extractor.embed(["fine", 7])
    with pytest.raises(
        ColdpressError, match="precision 'fp8' is not available for this model on cpu; expected auto or"
    ):
        Extractor(minilm, precision="fp8")
    with pytest.raises(ColdpressError, match="device 'tpu'"):
        Extractor(minilm, device="tpu")
    with pytest.raises(ColdpressError, match="layers 1 to 6"):
        Extractor(minilm, output="layer:7")
    with pytest.raises(ColdpressError, match="on_error"):
        extractor.run(tmp_path / "store", tmp_path, on_error="ignore")
    assert extractor.embed([]).shape == (0, 384)


def test_parse_outputs() -> None:
    assert [o.layer for o in parse_outputs("layer:2, mean", 4)] == [2, None]
    assert parse_outputs("pooled,tokens", 4, "tokens")[1].dense
    for wrong in ("tokens", "layer:0", "mean,mean", ""):
        with pytest.raises(ColdpressError):
            parse_outputs(wrong, 4)


def test_copies_share_the_backbone_and_pickles_carry_no_weights(extractor: Extractor) -> None:
    assert copy.deepcopy(extractor) is extractor
    blob = pickle.dumps(extractor)
    assert len(blob) < 1000
    assert np.array_equal(pickle.loads(blob).embed(["same"]), extractor.embed(["same"]))


def test_ordered_map_keeps_order_and_passes_errors_on() -> None:
    assert list(ordered_map(lambda x: x * x, range(50), workers=3)) == [x * x for x in range(50)]

    def fragile(x: int) -> int:
        if x == 7:
            raise ValueError("seven")
        return x

    seen = []
    with pytest.raises(ValueError, match="seven"):
        seen.extend(ordered_map(fragile, range(50), workers=2))
    assert seen == list(range(7))


def test_an_ordered_map_that_is_closed_draws_no_more() -> None:
    drawn: list[int] = []

    def slow() -> Iterator[int]:
        for number in range(1000):
            drawn.append(number)
            time.sleep(0.05)
            yield number

    found = ordered_map(lambda x: x, slow(), workers=8)
    next(found)
    before = len(drawn)
    found.close()
    assert len(drawn) <= before + 1  # that which was under way


def test_background_surfaces_errors() -> None:
    def work(x: int) -> None:
        if x == 2:
            raise OSError("disk full")

    with Background(work) as background:
        background.put(2)
        with pytest.raises(OSError, match="disk full"):
            background.drain()


@pytest.mark.parametrize(
    ("utilisation", "workers", "words"),
    [
        ({"compute": 0.9, "wait_input": 0.05}, 1, ["Compute limits"]),
        ({"compute": 0.3, "certify": 0.6, "wait_input": 0.05}, 1, ["The certificate took 60% of this run"]),
        ({"compute": 0.4, "read": 0.1, "decode": 0.8, "wait_input": 0.5}, 1000, ["decode", "cores are taken"]),
        ({"compute": 0.4, "read": 0.8, "decode": 0.1, "wait_input": 0.5}, 2, ["read", "raise --workers"]),
        ({"compute": 0.2, "source": 0.9, "tokenize": 0.2, "wait_input": 0.8}, 1, ["the source limits"]),
        ({"compute": 0.3, "wait_input": 0.1, "wait_write": 0.6}, 1, ["Writing limits"]),
    ],
)
def test_the_bottleneck_is_named(utilisation: dict[str, float], workers: int, words: list[str]) -> None:
    preparing = [name for name in ("read", "decode", "tokenize") if name in utilisation]
    sentence = bottleneck(utilisation, preparing, workers)
    assert all(word in sentence for word in words), sentence


def test_embed_to_says_that_inputs_failed(
    extractor: Extractor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = extractor.embed_to(tmp_path / "store", MemorySource([{"text": "a dict"}, "a text"], "text"))
    assert len(store) == 1
    assert "1 of 2 inputs failed, 0: got dict, expected a string" in caplog.text
