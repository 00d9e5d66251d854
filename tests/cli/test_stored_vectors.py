"""The whole way from texts to answers, with vectors that are stored smaller."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import coldpress

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    "options",
    [
        ("--dtype", "int8"),
        ("--dtype", "binary"),
        ("--truncate-dim", "64"),
        ("--pca", "48", "--dtype", "int8"),
        ("--output", "tokens,pooled", "--shard-rows", "30", "--dtype", "int8"),
    ],
    ids=" ".join,
)
def test_embed_index_and_search(
    cli: Cli, embedding: list[str], texts: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    store, index = tmp_path / "store", tmp_path / "index"
    done = cli(*embedding, "--out", store, *options, "--json")
    assert done.code == 0, done.err
    certificate = done.json["certificate"]
    assert certificate["stored_dtype"] == (options[-1] if "--dtype" in options else "float16")
    assert 0.5 < certificate["stored_cosine"] <= 1
    assert f"stored as {certificate['stored_dtype']}" in cli("info", store).out
    assert cli("index", store, "--out", index, "--json").code == 0
    line = json.loads(texts.read_text().splitlines()[3])["text"]
    found = cli("search", index, "--text", line, "-k", 3, "--json").json["hits"]
    assert found[0]["score"] > found[1]["score"]
    key = found[0]["key"]
    assert key not in [hit["key"] for hit in cli("search", index, "--key", key, "-k", 3, "--json").json["hits"]]


@pytest.mark.parametrize("options", [("--dtype", "int8"), ("--pca", "48")], ids=" ".join)
def test_probe_and_predict(cli: Cli, embedding: list[str], tmp_path: Path, options: tuple[str, ...]) -> None:
    store, head = tmp_path / "store", tmp_path / "head"
    assert cli(*embedding, "--out", store, *options).code == 0
    assert cli("probe", store, "--labels", "label", "--out", head, "--json").code == 0
    of_store = cli("predict", head, store, "--json").json
    of_source = cli("predict", head, embedding[1], "--json").json
    assert of_store["counts"] == of_source["counts"]


def test_what_wants_numbers_refuses_signs(cli: Cli, embedding: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert cli(*embedding, "--out", store, "--dtype", "binary").code == 0
    refused = cli("probe", store, "--labels", "label", "--out", tmp_path / "head")
    assert refused.code == 1
    assert "holds one bit a dimension" in refused.err
    assert "--dtype int8" in refused.err


def test_several_models_have_a_store_each(cli: Cli, embedding: list[str], store: Path, tmp_path: Path) -> None:
    (tmp_path / "twin").symlink_to(coldpress.Extractor("all-MiniLM-L6-v2", device="cpu").model.directory)
    arguments = [*embedding, "--model", tmp_path / "twin", "--out", tmp_path / "stores"]
    done = cli(*arguments, "--json")
    assert done.code == 0, done.err
    assert [one["rows"] for one in done.json["stores"]] == [100, 100]
    for name in ("all-MiniLM-L6-v2", "twin"):
        made = tmp_path / "stores" / name / "embeddings" / "part-00000.npy"
        assert made.read_bytes() == (store / "embeddings" / "part-00000.npy").read_bytes()
    assert cli(*arguments).out.count("complete already") == 2
    refused = cli(*arguments, "--reuse", store)
    assert (refused.code, "are for one model" in refused.err) == (2, True)
