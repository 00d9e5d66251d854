"""``coldpress assess``: which features suit the labels, and whether transfer is positive."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


def test_a_verdict_a_table_and_a_page(cli: Cli, store: Path, tmp_path: Path) -> None:
    page = tmp_path / "transfer.html"
    done = cli("assess", store, "--labels", "label", "--report", page)
    assert done.code == 0, done.err
    assert re.match(r"(POSITIVE|NEGATIVE|NO) TRANSFER", done.out)
    for name in ("★", "pooled", "random weights", "raw input", "LogME", "H-score", "NLEEP", "kNN"):
        assert name in done.out
    html = page.read_text()
    assert "Accuracy on unseen items" in html
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", html)


def test_json_has_the_evidence(cli: Cli, store: Path) -> None:
    found = cli("assess", store, "--labels", "label", "--items", 60, "--json").json
    assert (found["items"], found["labelled"]) == (60, 100)
    assert found["outcome"] in ("positive", "no", "negative")
    (one,) = found["candidates"]
    assert set(one["against"]) == {"raw input", "random weights"}
    assert {"change", "interval", "p", "p_adjusted"} == set(one["against"]["raw input"])
    assert found["cka"] == []


def test_several_outputs_are_compared_and_one_is_asked_for(
    cli: Cli, process: Cli, embedding: list[str], tmp_path: Path
) -> None:
    store = tmp_path / "layers"
    made = process(*embedding, "--output", "pooled,layer:2,layer:4", "--out", store)
    assert made.code == 0, made.err
    shown = cli("assess", store, "--labels", "label")
    assert shown.code == 0, shown.err
    assert all(name in shown.out for name in ("layer:2", "layer:4", "CKA"))
    found = cli("assess", store, "--labels", "label", "--output", "layer:2", "--json").json
    assert [one["name"] for one in found["candidates"]] == ["layer:2"]


def test_originals_that_have_moved_are_named(cli: Cli, process: Cli, texts: Path, tmp_path: Path) -> None:
    here = tmp_path / "here.jsonl"
    here.write_bytes(texts.read_bytes())
    store = tmp_path / "store"
    embedding = ("embed", here, "--model", "all-MiniLM-L6-v2", "--key-column", "key", "--label-column", "label")
    assert process(*embedding, "--out", store).code == 0
    there = here.rename(tmp_path / "there.jsonl")
    done = cli("assess", store, "--labels", "label")
    assert done.code == 0
    assert "UNDECIDED" in done.out
    assert "--data" in done.out
    found = cli("assess", store, "--labels", "label", "--data", there, "--key-column", "key", "--json").json
    assert found["lacking"] == {}
    assert found["raw"] is not None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--labels", "colour"), 1, "neither a metadata column"),
        (("--labels", "label", "--output", "layer:3"), 1, "has no output layer:3: expected pooled"),
        (("--labels", "label", "--report", "page.pdf"), 2, "end it in .html or .png"),
        (("--labels", "label", "--items", 5), 2, "20"),
    ],
)
def test_bad_usage(cli: Cli, store: Path, arguments: tuple[object, ...], code: int, message: str) -> None:
    done = cli("assess", store, *arguments)
    assert done.code == code
    assert message in " ".join(done.err.replace("│", " ").split())
