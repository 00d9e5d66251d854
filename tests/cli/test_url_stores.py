"""Every command that takes a store takes the URL of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from coldpress import EmbeddingStore

Cli = Callable[..., Any]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    yield "memory://commands/texts.store"
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]  # its root
    # A Path made of a URL would have left a directory "memory:" here.
    assert not list(tmp_path.glob("memory*"))


def test_embed_info_index_search_probe_predict_and_reuse(cli: Cli, embedding: list[str], store: Path, url: str) -> None:
    done = cli(*embedding, "--out", url, "--shard-rows", 40)
    assert done.code == 0, done.err
    assert f"coldpress index {url} --out texts.index" in " ".join(done.out.split())
    assert "complete already" in cli(*embedding, "--out", url, "--shard-rows", 40).out
    np.testing.assert_array_equal(
        np.asarray(EmbeddingStore(url).embeddings), np.asarray(EmbeddingStore(store).embeddings)
    )
    info = cli("info", url, "--json").json
    assert (info["kind"], info["path"], info["rows"]) == ("store", url, 100)
    assert info["bytes"] == EmbeddingStore(url).nbytes
    assert {"key", "label", "content_hash"} <= set(info["columns"])
    assert url in cli("info", url).out
    assert cli("index", url, "--out", "texts.index", "--json").json["rows"] == 100
    found = cli("search", "texts.index", "--text", "an electronic letter", "-k", 1, "--store", url, "--json").json
    assert found["hits"][0]["label"] == "email"
    probed = cli("probe", url, "--labels", "label", "--test-store", url, "--out", "texts.head", "--json").json
    assert (probed["head"], probed["evaluation"]["items"]) == ("texts.head", 100)
    assert cli("predict", "texts.head", url, "--json").json["rows"] == 100
    reused = cli(*embedding, "--out", "again.store", "--reuse", url, "--json").json
    assert (reused["reused"], reused["computed"]) == (100, 0)


def test_a_url_without_a_store_is_one_line(cli: Cli, url: str) -> None:
    for command in (["info", url], ["index", url, "--out", "x.index"]):
        done = cli(*command)
        assert (done.code, done.out) == (1, "")
        assert done.err.count("\n") == 1
        assert f"{url}: no such directory" in done.err


@pytest.mark.parametrize("command", [["index"], ["probe", "--labels", "label"]])
def test_what_goes_to_a_directory_does_not_go_to_a_url(cli: Cli, store: Path, url: str, command: list[str]) -> None:
    done = cli(*command, store, "--out", url)
    assert done.code == 2
    assert f"{url}: is a URL" in done.err
