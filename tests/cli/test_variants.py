"""``coldpress certify`` with layers and labels: what each variant of a model costs and brings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
MINILM = "all-MiniLM-L6-v2"


@pytest.fixture
def certify(texts: Path) -> list[str]:
    """The arguments that certify the texts, which carry their own keys and four labels."""
    return ["certify", MINILM, "--data", str(texts), "--samples", "16", "--precision", "int8"]


def test_a_table_of_variants_and_a_page(cli: Cli, certify: list[str], tmp_path: Path) -> None:
    page = tmp_path / "cost.html"
    done = cli(*certify, "--labels", "label", "--layers", 2, "--report", page)
    assert done.code == 0, done.err
    assert re.search(r"all layers +fp32 +1\.0000 .* 90\.3 MB", done.out)
    assert re.search(r"all layers +int8 ", done.out)
    assert re.search(r"2 layers +int8 +– ", done.out)
    assert "★" in done.out
    html = page.read_text()
    assert "2\u00a0layers,\u00a0int8" in html
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", html)


def test_json_has_every_variant(cli: Cli, certify: list[str]) -> None:
    found = cli(*certify, "--labels", "label", "--layers", 2, "--layers", 6, "--probe-items", 80, "--json").json
    kept = [(one["layers"], one["precision"]) for one in found["variants"]]
    assert kept == [(None, "fp32"), (None, "int8"), (2, "int8")]  # all six layers are the whole model
    assert (found["read"], found["labelled"], found["items"]) == (100, 100, 80)
    assert found["train_items"] + found["test_items"] == 80
    low, high = found["variants"][2]["change_interval"]
    assert low <= found["variants"][2]["change"] <= high


def test_labels_come_from_a_file_too(cli: Cli, certify: list[str], texts: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in texts.read_text().splitlines()]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps({"key": row["key"], "label": row["label"]}) + "\n" for row in rows[:60]))
    found = cli(*certify, "--labels", labels, "--key-column", "key", "--json").json
    assert (found["read"], found["labelled"]) == (100, 60)


def test_without_labels_there_is_no_accuracy(cli: Cli, certify: list[str]) -> None:
    shown = cli(*certify, "--layers", 3).out
    assert "3 layers" in shown
    assert "accuracy" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layers", 9, "--labels", "label"), "this model has 6 blocks"),
        (("--report", "cost.html"), "give --labels, --layers or --merge-tokens"),
        (("--layers", 2, "--report", "no/such/place/cost.html"), "no directory"),
    ],
)
def test_bad_usage(cli: Cli, certify: list[str], arguments: tuple[object, ...], message: str) -> None:
    done = cli(*certify, *arguments)
    assert done.code == 2
    assert message in " ".join(done.err.replace("│", " ").split())


def test_a_mode_that_is_refused_everywhere_fails(cli: Cli, outliers: Path, texts: Path) -> None:
    done = cli("certify", outliers, "--data", texts, "--precision", "int8", "--labels", "label", "--limit", 60)
    assert done.code == 1
    assert "✗" in done.out
    assert "at least 0.995" in done.out
    assert "no variant in int8 is close enough" in done.err


def test_a_draw_too_small_for_its_classes_says_what_to_raise(cli: Cli, certify: list[str]) -> None:
    done = cli(*certify, "--labels", "label", "--probe-items", 5)
    assert done.code == 1
    assert "raise --probe-items, 100 have a label" in done.err


def test_a_column_that_is_not_there_is_named(cli: Cli, certify: list[str]) -> None:
    done = cli(*certify, "--labels", "kind")
    assert done.code == 1
    assert "kind" in done.err
    assert "label" in done.err
