"""int8 that fails its certificate is rescued by running a few layers in a higher mode, and says which."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from coldpress import ColdpressError, EmbeddingStore, Extractor
from coldpress.data import MemorySource
from coldpress.engine import Choice, Decision, candidates, certify, first_passing
from coldpress.engine.sample import Sample
from coldpress.engine.sensitivity import LayerCost, layer_costs
from coldpress.engine.settle import worst_layers
from coldpress.errors import CertificateError, FingerprintMismatch

MODES = tuple(Choice(mode, "because") for mode in ("int8", "int16", "fp32"))
PLANTED = {"blocks.1.attention.out", "blocks.3.attention.out"}


@pytest.fixture(scope="module")
def news(shared: Path) -> list[str]:
    lines = (shared / "text" / "ag_news" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[:100]]


@pytest.fixture(scope="module")
def exact(outliers: Path) -> Extractor:
    return Extractor(outliers, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def int8(outliers: Path) -> Extractor:
    return Extractor(outliers, device="cpu", precision="int8")


@pytest.fixture(scope="module")
def sample(exact: Extractor, news: list[str]) -> Sample:
    return exact._sample(news[:64], 64)


@pytest.fixture(scope="module")
def decision(exact: Extractor, sample: Sample) -> Decision:
    return first_passing(MODES, exact._arithmetic.build, sample)


@pytest.fixture(scope="module")
def costs(int8: Extractor, exact: Extractor, sample: Sample) -> dict[str, LayerCost]:
    return layer_costs(int8._compute, exact._compute, sample.inputs)


def test_outlier_channels_change_int8_alone(
    int8: Extractor, exact: Extractor, minilm: Path, sample: Sample, news: list[str], tmp_path: Path
) -> None:
    original = Extractor(minilm, device="cpu", precision="fp32")
    assert np.abs(exact.embed(news[:9]) - original.embed(news[:9])).max() < 1e-5
    assert not certify(int8._compute, sample).passed
    with pytest.raises(CertificateError, match=r"int8 vectors are too far .*; use precision auto") as refused:
        int8.run(tmp_path / "store", MemorySource(news, "text"))
    assert "fp32" in str(refused.value)


def test_the_layers_that_hurt_are_found_and_the_rest_stays(decision: Decision) -> None:
    choice, plain = decision.choice, decision.trials[0].certificate
    assert (choice.mode, set(choice.layers.values()), len(decision.trials)) == ("int8", {"int16"}, 2)
    assert choice.layers.keys() <= PLANTED
    assert (plain.label, plain.passed) == ("int8", False)
    assert decision.certificate.passed
    assert decision.certificate.layer_precision == choice.layers == decision.compute.layer_precision
    assert (
        decision.certificate.label == f"int8 with {len(choice.layers)} layer{'s' * (len(choice.layers) > 1)} in int16"
    )
    assert choice.reason.startswith("int8 failed its certificate (mean cosine 0.99")
    assert choice.reason.endswith(f"; with {len(choice.layers)} of 24 linear layers in int16 it passed")


def test_costs_of_layers_add_up_to_what_int8_loses(
    costs: dict[str, LayerCost], int8: Extractor, sample: Sample
) -> None:
    assert len(costs) == 24
    lost = 1 - certify(int8._compute, sample).cosine_mean
    assert sum(cost.loss for cost in costs.values()) == pytest.approx(lost, rel=0.3)
    assert set(worst_layers(costs)[:2]) == PLANTED


@pytest.mark.parametrize("threads", [1, 3])
def test_the_decision_depends_on_neither_order_nor_threads(
    outliers: Path, decision: Decision, costs: dict[str, LayerCost], sample: Sample, threads: int
) -> None:
    backwards = Sample(sample.inputs[::-1], sample.exact[::-1])
    extractor = Extractor(outliers, device="cpu", threads=threads)
    again = [extractor._arithmetic.build(Choice(mode, "")) for mode in ("int8", "fp32")]
    assert layer_costs(*again, backwards.inputs) == costs
    assert first_passing(MODES, extractor._arithmetic.build, backwards).choice.layers == decision.choice.layers


def test_at_most_a_quarter_of_the_work_leaves_the_mode() -> None:
    costs = {
        "large": LayerCost(9.0, 40),
        "small": LayerCost(1.0, 10),
        "tiny": LayerCost(0.1, 2),
        "rest": LayerCost(0, 48),
    }
    assert worst_layers(costs) == ["small", "tiny"]
    assert worst_layers({}) == []
    assert worst_layers({"only": LayerCost(1.0, 5)}) == []
    ties = {name: LayerCost(1.0, 1) for name in "hgfedcba"}
    assert worst_layers(ties) == ["a", "b"]


def test_items_without_a_vector_are_left_out(exact: Extractor, int8: Extractor, sample: Sample) -> None:
    assert layer_costs(int8._compute, exact._compute, []) == {}
    two = layer_costs(int8._compute, exact._compute, sample.inputs[:2])
    assert all(np.isfinite(cost.loss) and cost.macs > 0 for cost in two.values())


@pytest.fixture
def excepted(outliers: Path, decision: Decision) -> Extractor:
    return Extractor(outliers, device="cpu", precision="int8", layer_precision=decision.choice.layers)


def test_what_was_certified_is_what_runs_later(excepted: Extractor, decision: Decision, sample: Sample) -> None:
    assert excepted.layer_precision == decision.compute.backbone.layer_precision
    tried, made = (compute(sample.inputs)["pooled"] for compute in (decision.compute, excepted._compute))
    assert np.array_equal(tried, made)
    kinds = {name: layer.packed.dtype for name, layer in decision.compute.backbone.linears().items()}
    assert {name for name, kind in kinds.items() if kind == torch.int16} == set(decision.choice.layers)


def test_the_fingerprint_names_the_layers(excepted: Extractor, int8: Extractor, decision: Decision) -> None:
    assert excepted.fingerprint.fields["layer_precision"] == decision.choice.layers
    assert "layer_precision" not in int8.fingerprint.fields
    name = next(iter(decision.choice.layers))
    assert excepted.fingerprint.diff(int8.fingerprint) == [
        f"layer_precision.{layer}: int16 != (absent)" for layer in sorted(decision.choice.layers)
    ]
    other = Extractor(excepted.model, device="cpu", precision="int8", layer_precision={name: "fp32"})
    assert len({e.fingerprint.digest for e in (excepted, int8, other)}) == 3


def test_a_store_goes_on_and_is_reused_with_its_layers(
    excepted: Extractor,
    int8: Extractor,
    outliers: Path,
    news: list[str],
    tmp_path: Path,
    snapshot: Callable[[Path], dict[str, bytes]],
) -> None:
    def source(texts: Sequence[str]) -> MemorySource:
        return MemorySource(texts, "text")

    excepted.run(tmp_path / "whole", source(news), shard_rows=40)
    excepted.run(tmp_path / "store", source(news), shard_rows=40, should_stop=lambda: True)
    resumed = Extractor(outliers, device="cpu")
    summary = resumed.run(tmp_path / "store", source(news), shard_rows=40)
    assert (summary.resumed, summary.precision, summary.layer_precision) == (40, "int8", excepted.layer_precision)
    assert resumed.fingerprint == excepted.fingerprint
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "whole")
    reusing = Extractor(outliers, device="cpu")
    summary = reusing.run(tmp_path / "other", source([*news[50:], "new"]), reuse=tmp_path / "store")
    assert (summary.reused, summary.computed, reusing.layer_precision) == (50, 1, excepted.layer_precision)
    with pytest.raises(FingerprintMismatch, match="layer_precision"):
        int8.run(tmp_path / "store", source(news))
    with pytest.raises(FingerprintMismatch, match="layer_precision"):
        int8.run(tmp_path / "third", source(news), reuse=tmp_path / "store")


def test_auto_rescues_int8_on_the_data_of_a_run(outliers: Path, news: list[str], tmp_path: Path) -> None:
    if candidates("auto", ("fp32", "int16", "int8"))[0].mode != "int8":
        pytest.skip("int8 is no faster than fp32 here")
    extractor = Extractor(outliers, device="cpu")
    summary = extractor.run(tmp_path / "store", MemorySource(iter(news), "text"), dtype="float32")
    assert summary.precision == extractor.precision == "int8"
    assert summary.layer_precision.keys() <= PLANTED
    store = EmbeddingStore(tmp_path / "store")
    assert store.fingerprint.digest == extractor.fingerprint.digest
    assert store.certificate == summary.certificate
    assert summary.certificate is not None
    assert summary.certificate.layer_precision == extractor.layer_precision == summary.layer_precision != {}
    again = pickle.loads(pickle.dumps(extractor))
    assert again.fingerprint.digest == extractor.fingerprint.digest
    assert np.array_equal(again.embed(news[:5]), np.asarray(store.embeddings[:5]))
    trials = Extractor(outliers, device="cpu").compare(news[:64], samples=64)  # those that certified the run
    assert [trial.mode for trial in trials] == ["int8", summary.label, "int16", "fp32"]


def test_what_cannot_be_excepted_is_refused(excepted: Extractor, minilm: Path) -> None:
    def ask(layers: dict[str, str], precision: str = "int8") -> None:
        Extractor(minilm, device="cpu", precision=precision, layer_precision=layers)

    with pytest.raises(ColdpressError, match=r"names 'words', expected linear layers of this model: one of 24 such as"):
        ask({"words": "fp32"})
    with pytest.raises(ColdpressError, match="'int7' is not available"):
        ask({"blocks.0.mlp.up": "int7"})
    with pytest.raises(ColdpressError, match="is auto, expected one of fp32"):
        ask({"blocks.0.mlp.up": "auto"})
    with pytest.raises(ColdpressError, match="needs a precision for the other layers"):
        ask({"blocks.0.mlp.up": "fp32"}, "auto")
    with pytest.raises(ColdpressError, match="cannot change to int8; load it again"):
        excepted._compute.backbone.prepare("int8")
