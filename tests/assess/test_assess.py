"""The verdict on real features: positive where they help, negative where they have lost what the input shows."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from coldpress import Extractor
from coldpress.assess import assess
from coldpress.assess.moments import ClassMoments
from coldpress.assess.scores import h_score, log_evidence
from coldpress.data import MemorySource
from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.probes.features import Features


@pytest.fixture(scope="module")
def topics(news_store):
    return assess(news_store)


def test_what_a_text_is_about_transfers(topics):
    assert topics.outcome == "positive"
    assert topics.verdict.startswith("POSITIVE TRANSFER: a probe on pooled gets ")
    assert set(topics.best.against) == {"raw input", "random weights"}
    assert all(one.better and one.change > 0.1 for one in topics.best.against.values())
    assert topics.lacking == {}
    assert (topics.items, topics.labelled, topics.folds) == (500, 500, 5)


def test_all_numbers_are_there_as_json(topics):
    found = json.loads(json.dumps(topics.to_json()))
    assert [one["name"] for one in found["candidates"]] == ["pooled", "layer:1"]
    for one in (*found["candidates"], {"scores": found["raw"]}):
        scores = one["scores"]
        assert {"log_me", "h_score", "h_score_shrunk", "nleep", "probe", "knn", "dim"} == set(scores)
        low, high = scores["probe"]["interval"]
        assert low <= scores["probe"]["accuracy"] <= high
    assert found["cka"][0][0] == 1.0
    assert 0 < found["cka"][0][1] == found["cka"][1][0] < 1
    assert found["candidates"][1]["behind"]["change"] <= 0


def test_the_scores_are_those_of_all_items(news_store, topics):
    labels = np.unique(news_store.metadata.column("label").to_pylist(), return_inverse=True)[1]
    found = ClassMoments.of(Features.of(news_store, np.arange(500), "pooled"), labels, 4)
    assert topics.best.scores.log_me == pytest.approx(log_evidence(found), abs=1e-6)
    assert topics.best.scores.h_score_shrunk == pytest.approx(h_score(found, None), abs=1e-5)


def test_letter_case_is_lost_on_an_uncased_model(news_store):
    found = assess(news_store, "case", outputs=["pooled"])
    assert found.outcome == "negative"
    assert found.verdict.startswith("NEGATIVE TRANSFER")
    assert found.best.against["raw input"].worse
    assert found.raw.probe.accuracy > 0.95
    assert found.best.scores.probe.accuracy < 0.6


def test_labels_that_mean_nothing_are_neither(news_store):
    found = assess(news_store, np.random.default_rng(0).integers(0, 2, 500), outputs=["pooled"])
    assert found.outcome == "no"
    assert "may be chance" in found.verdict


def test_stores_are_ranked_by_the_probe_and_their_names_are_told_apart(news_store, news, minilm, tmp_path):
    short = Extractor(minilm, device="cpu", precision="fp32", layers=1).embed_to(tmp_path / "short", news)
    found = assess([news_store, short], outputs=["pooled"], items=200)
    assert {one.name for one in found.candidates} == {"news pooled", "short pooled"}
    accuracies = [one.scores.probe.accuracy for one in found.candidates]
    assert accuracies == sorted(accuracies, reverse=True)
    assert found.best.behind is None
    assert found.best.tied
    assert found.items == 200


def test_items_from_memory_have_to_be_given_again(minilm, tmp_path):
    texts = [f"{'the cat sat down' if i % 2 else 'shares fell again'} on day {i}" for i in range(40)]
    labels = [i % 2 for i in range(40)]
    extractor = Extractor(minilm, device="cpu", precision="fp32")
    store = extractor.embed_to(tmp_path / "store", MemorySource(texts, "text"))
    found = assess(store, labels)
    assert found.outcome == "undecided"
    assert "in memory when they were embedded" in found.lacking["raw input"]
    assert "nothing to compare" in found.verdict
    assert assess(store, labels, data=MemorySource(texts, "text")).raw is not None
    changed = MemorySource(["another text", *texts[1:]], "text")
    with pytest.raises(ColdpressError, match="1 of 40 items are not in the data, or have changed"):
        assess(store, labels, data=changed)


def test_a_model_that_is_gone_leaves_the_raw_input_to_compare_with(news, minilm, tmp_path):
    gone = tmp_path / "model"
    shutil.copytree(minilm, gone)
    store = Extractor(gone, device="cpu", precision="fp32").embed_to(tmp_path / "store", news, limit=200)
    shutil.rmtree(gone)
    found = assess(store)
    assert set(found.best.against) == {"raw input"}
    assert "the same network with random weights could not be compared" in found.verdict
    assert found.best.random is None


def test_a_reference_says_how_far_the_items_have_come(news_store, shared, minilm, tmp_path):
    questions = shared / "text" / "trec6" / "train.jsonl"
    extractor = Extractor(minilm, device="cpu", precision="fp32", output="pooled,layer:1")
    other = extractor.embed_to(tmp_path / "questions", questions, limit=120)
    (far,) = assess(news_store, items=100, reference=other).distances
    assert far.mmd_p < 0.01
    assert far.proxy_a > 1.5
    (near,) = assess(news_store, items=100, reference=news_store).distances
    assert near.mmd_p > 0.05
    assert near.proxy_a < 0.5
    short = Extractor(minilm, device="cpu", precision="fp32", layers=2).embed_to(
        tmp_path / "short", questions, limit=60
    )
    with pytest.raises(FingerprintMismatch):
        assess(news_store, items=100, reference=short)


def test_an_output_that_is_not_there_is_named(news_store):
    with pytest.raises(ColdpressError, match="has no output layer:9: expected pooled, layer:1"):
        assess(news_store, outputs=["layer:9"])
