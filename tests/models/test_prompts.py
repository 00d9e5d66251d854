"""Query and document prefixes: known by the name of the model where its own files say nothing."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from conformance import randomise, write_files
from transformers import BertConfig, BertModel

import coldpress
from coldpress import models
from coldpress.models.prompts import FAMILIES, prompts_of, remind_of_prompts
from coldpress.types import TextSpec

SEARCH = "Represent this sentence for searching relevant passages: "
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}


def known(model: str, own: dict[str, str] | None = None, name_or_path: str = "") -> dict[str, str]:
    return dict(prompts_of(model, Path("/models/mine"), {"_name_or_path": name_or_path}, own or {}))


@pytest.mark.parametrize(
    ("model", "query", "document"),
    [
        ("intfloat/e5-small-v2", "query: ", "passage: "),
        ("intfloat/e5-large", "query: ", "passage: "),
        ("intfloat/multilingual-e5-base", "query: ", "passage: "),
        ("BAAI/bge-small-en-v1.5", SEARCH, ""),
        ("BAAI/bge-large-en", SEARCH, ""),
        ("BAAI/bge-base-zh-v1.5", "为这个句子生成表示以用于检索相关文章：", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("nomic-ai/modernbert-embed-base", "search_query: ", "search_document: "),
        ("mixedbread-ai/mxbai-embed-large-v1", SEARCH, ""),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", SEARCH, ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
    ],
)
def test_families_are_known_by_name(model, query, document):
    assert (known(model)["query"], known(model)["document"]) == (query, document)
    assert known("/data/" + model.split("/")[1] + "/") == known(model)
    assert known(model.upper()) == known(model)


@pytest.mark.parametrize(
    "model",
    [
        "intfloat/multilingual-e5-large-instruct",
        "intfloat/e5-mistral-7b-instruct",
        "BAAI/bge-m3",
        "BAAI/bge-reranker-base",
        "thenlper/gte-small",
        "Alibaba-NLP/gte-base-en-v1.5",
        "sentence-transformers/all-MiniLM-L6-v2",
        "me/not-e5-base",
    ],
)
def test_others_have_none(model):
    assert known(model) == {}


def test_where_the_name_is_looked_for():
    e5 = known("intfloat/e5-base-v2")
    cached = Path("/cache/models--intfloat--e5-base-v2/snapshots/0123abcd")
    assert prompts_of(str(cached), cached, {}, {}) == e5
    assert known("/my/model", name_or_path="intfloat/e5-base-v2") == e5
    assert known("/my/model", name_or_path="/root/.cache/torch/sentence_transformers/BAAI_bge-small-en/") == {
        "query": SEARCH,
        "document": "",
    }
    own_name_first = known("Snowflake/snowflake-arctic-embed-m", name_or_path="intfloat/e5-base")
    assert own_name_first["query"] == SEARCH


def test_the_models_own_prompts_win_unless_they_are_the_empty_ones_that_every_model_gets():
    assert known("intfloat/e5-base-v2", {"query": "q: "}) == {"query": "q: "}
    assert known("intfloat/e5-base-v2", {"query": "", "document": ""}) == known("intfloat/e5-base-v2")
    assert known("me/unknown", {"query": "", "document": ""}) == {"query": "", "document": ""}


def test_every_family_says_where_it_is_from():
    assert all(family.source.startswith("https://huggingface.co/") for family in FAMILIES)
    assert all({"query", "document"} <= family.prompts.keys() for family in FAMILIES)


@pytest.fixture
def e5(tmp_path):
    folder = tmp_path / "e5-small-v2"
    config = BertConfig(vocab_size=30, max_position_embeddings=32, **SIZES)
    randomise(BertModel(config)).save_pretrained(folder)
    write_files(folder, {"vocab.txt": "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])})
    return folder


def test_a_loaded_model_has_the_prompts_and_says_when_none_is_used(e5, caplog):
    loaded = models.load(e5)
    assert isinstance(loaded.spec, TextSpec)
    assert loaded.spec.prompt == ""  # none is taken silently
    assert loaded.prompts["document"] == "passage: "
    with caplog.at_level(logging.WARNING):
        remind_of_prompts(loaded)
    assert "e5-small-v2 was trained with prompts and none is used" in caplog.text
    assert "query ('query: '), document ('passage: ')" in caplog.text
    caplog.clear()
    remind_of_prompts(replace(loaded, spec=replace(loaded.spec, prompt="query: ")))
    remind_of_prompts(replace(loaded, prompts={}))
    assert caplog.text == ""


def test_a_prompt_is_chosen_by_its_name(e5):
    chosen = coldpress.Extractor(e5, prompt="document")
    assert chosen.model.spec.prompt == "passage: "
    assert chosen.fingerprint.digest == coldpress.Extractor(e5, prompt="passage: ").fingerprint.digest
    assert chosen.fingerprint.digest != coldpress.Extractor(e5, prompt="query").fingerprint.digest
    assert coldpress.Extractor(e5, prompt="no such name").model.spec.prompt == "no such name"
