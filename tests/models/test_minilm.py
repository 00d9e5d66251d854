"""The real MiniLM: the vectors of sentence-transformers, and the quality that is published for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conformance import embed_texts, load_ready
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from coldpress import models
from coldpress.errors import ModelError

ODD = [
    "",
    " ",
    "\n\t",
    "é" * 40,
    "日本語のテキスト",
    "🙂🙃",
    "a\x00b",
    "x" * 5000,
    "word " * 1000,
    "[SEP] [MASK] [PAD]",
]


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def loaded(minilm: Path) -> models.LoadedModel:
    return load_ready(minilm)


@pytest.fixture(scope="module")
def mixed(shared: Path) -> list[str]:
    """News, questions, abstracts and oddities, from a few words to more than the model takes."""
    folder = shared / "text"
    news = [row["text"] for row in rows(folder / "ag_news" / "test.jsonl")[:100]]
    questions = [row["text"] for row in rows(folder / "trec6" / "test.jsonl")[:100]]
    documents = [row["text"] for row in rows(folder / "cranfield" / "corpus.jsonl")[:90]]
    return news + questions + documents + ODD


@pytest.mark.slow
def test_vectors_are_those_of_sentence_transformers(loaded: models.LoadedModel, minilm: Path, mixed: list[str]) -> None:
    theirs = SentenceTransformer(str(minilm), device="cpu").encode(mixed)
    ours = embed_texts(loaded, mixed)
    assert np.abs(ours - theirs).max() <= 1e-5
    assert np.abs(np.linalg.norm(ours, axis=1) - 1).max() < 1e-6


@pytest.mark.slow
def test_sts_b_is_as_published(loaded: models.LoadedModel, shared: Path) -> None:
    pairs = rows(shared / "text" / "stsb" / "test.jsonl")
    first, second = (embed_texts(loaded, [pair[key] for pair in pairs]) for key in ("sentence1", "sentence2"))
    correlation = 100 * spearmanr((first * second).sum(axis=1), [pair["score"] for pair in pairs]).statistic
    assert len(pairs) == 900
    assert correlation == pytest.approx(81.43, abs=0.05)


def test_what_the_directory_says_is_read(loaded: models.LoadedModel) -> None:
    backbone, spec = loaded.backbone, loaded.spec
    assert (backbone.modality, backbone.width, backbone.depth) == ("text", 384, 6)
    assert (backbone.pooling, backbone.normalize) == ("mean", True)
    assert (spec.max_tokens, spec.prompt, spec.lowercase) == (256, "", False)


def test_the_default_prompt_of_a_model_is_used(minilm: Path, tmp_path: Path) -> None:
    for path in minilm.iterdir():
        (tmp_path / path.name).symlink_to(path)
    settings = tmp_path / "config_sentence_transformers.json"
    values = json.loads(settings.read_text()) | {"prompts": {"doc": "passage: ", "ask": "query: "}}
    settings.unlink()
    settings.write_text(json.dumps(values | {"default_prompt_name": "doc"}))
    loaded = load_ready(tmp_path)
    assert loaded.spec.prompt == "passage: "
    theirs = SentenceTransformer(str(tmp_path), device="cpu").encode(["one"])
    assert np.abs(embed_texts(loaded, ["one"]) - theirs).max() < 1e-6
    settings.write_text(json.dumps(values | {"default_prompt_name": "answer"}))
    with pytest.raises(ModelError, match="default_prompt_name 'answer', expected one of doc, ask"):
        models.load(tmp_path)
