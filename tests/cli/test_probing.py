"""``coldpress probe`` with more than one head or output, and what it says beside accuracy."""

from __future__ import annotations

import json
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


def numbered(texts: Path, path: Path) -> Path:
    """The texts with how long each is, and which letters it has, as labels."""
    rows = [json.loads(line) for line in texts.read_text().splitlines()]
    path.write_text(
        "".join(
            json.dumps(
                {
                    "key": row["key"],
                    "text": row["text"],
                    "length": len(row["text"]) + 0.5,
                    "words": "|".join(word for word in ("file", "object", "return") if word in row["text"]),
                }
            )
            + "\n"
            for row in rows
        )
    )
    return path


def test_numbers_and_several_labels_are_told_from_classes(cli: Cli, texts: Path, tmp_path: Path) -> None:
    source, made = numbered(texts, tmp_path / "numbered.jsonl"), tmp_path / "numbered.store"
    options = ("--model", "all-MiniLM-L6-v2", "--key-column", "key", "--text-column", "text")
    columns = ("--metadata-column", "length", "--metadata-column", "words")
    assert cli("embed", source, *options, *columns, "--out", made).code == 0

    done = cli("probe", made, "--labels", "length", "--out", tmp_path / "length.head")
    assert "numbers (the labels are numbers, and not all are whole: --task says otherwise)" in done.out
    assert "always the mean" in done.out
    found = cli("predict", tmp_path / "length.head", made, "--json").json
    assert all(set(row) == {"key", "prediction"} for row in found["predictions"])
    shown = cli("predict", tmp_path / "length.head", source, "--key-column", "key", "--text-column", "text")
    assert "100 numbers from" in shown.out
    assert "R²" in cli("info", tmp_path / "length.head").out

    command = ("probe", made, "--labels", "words", "--separator", "|", "--out", tmp_path / "words.head")
    assert "mean average precision" in cli(*command).out
    found = cli("predict", tmp_path / "words.head", made, "--out", tmp_path / "words.csv", "--json").json
    assert set(found["counts"]) <= {"file", "object", "return"}
    assert "mean average precision" in cli("info", tmp_path / "words.head").out
    again = cli("probe", made, "--labels", tmp_path / "words.csv", "--out", tmp_path / "again.head")
    assert again.code == 1  # it has the columns of predictions, not of labels
    assert "no column 'label'" in again.err

    refused = cli("probe", made, "--labels", "length", "--out", tmp_path / "head", "--curve")
    assert refused.code == 2
    assert "for classes, and the task is regress" in refused.err
    refused = cli("serve", "--head", tmp_path / "length.head", "--port", 0)
    assert refused.code == 1
    assert "the head is for the task regress" in refused.err
