"""``coldpress probe`` with more than one head or output, and what it says beside accuracy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


@pytest.fixture
def layered(cli: Cli, embedding: list[str], tmp_path: Path) -> Path:
    """The texts with two outputs."""
    done = cli(*embedding, "--output", "pooled,layer:3", "--out", tmp_path / "layered.store")
    assert done.code == 0, done.err
    return tmp_path / "layered.store"


def test_the_best_of_outputs_and_heads_is_kept_and_predicts_from_texts(
    cli: Cli, layered: Path, texts: Path, tmp_path: Path
) -> None:
    heads = ("--head", "ridge", "--head", "centroid", "--head", "knn")
    done = cli("probe", layered, "--labels", "label", "--out", tmp_path / "head", "--output", "layer:3", *heads)
    assert done.code == 0, done.err
    assert "nearest centroid" in done.out
    stored = cli("predict", tmp_path / "head", layered, "--json").json
    embedded = cli("predict", tmp_path / "head", texts, "--key-column", "key", "--json").json
    assert [one["prediction"] for one in stored["predictions"]] == [
        one["prediction"] for one in embedded["predictions"]
    ]
    assert cli("info", tmp_path / "head", "--json").json["output"] == "layer:3"


def test_all_outputs_are_compared(cli: Cli, layered: Path, tmp_path: Path) -> None:
    command = ("probe", layered, "--labels", "label", "--out", tmp_path / "head", "--output", "all", "--head", "lda")
    found = cli(*command, "--json").json
    assert {one["features"] for one in found["candidates"]} == {"pooled", "layer:3"}
    best = max(found["candidates"], key=lambda one: (one["score"], -one["loss"]))
    assert (found["features"], found["setting"], found["head_kind"]) == (best["features"], best["setting"], "lda")


def test_groups_labels_a_class_and_mistakes_are_shown(cli: Cli, store: Path, tmp_path: Path) -> None:
    command = ("probe", store, "--labels", "label", "--out", tmp_path / "head", "--test-size", 0.5)
    done = cli(*command, "--group", "label", "--curve")
    assert done.code == 0, done.err
    assert "gap between best and worst" in done.out
    assert "labels a class" in done.out
    found = cli(*command, "--group", "label", "--curve", "--json").json
    assert [one["per_class"] for one in found["curve"]][:3] == [1, 2, 4]
    assert sum(one["items"] for one in found["examination"]["groups"]) == found["test_items"]


def test_a_column_that_is_not_there_is_named(cli: Cli, store: Path, tmp_path: Path) -> None:
    done = cli("probe", store, "--labels", "label", "--out", tmp_path / "head", "--keep-together", "patient")
    assert done.code == 1
    assert "no metadata column 'patient'" in done.err
