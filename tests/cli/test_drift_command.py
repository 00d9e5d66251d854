"""``coldpress drift`` on real texts: verdict, driving items, time, page, exit codes, a head trained again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coldpress.cli._demo import corpus as documentation

from .conftest import MINILM, Cli, make


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Documentation; other documentation; and such with questions among it, on two days."""
    directory = tmp_path_factory.mktemp("drift")
    documentation.write(directory / "all.jsonl", documentation.collect(300))
    rows = [json.loads(line) for line in (directory / "all.jsonl").read_text().splitlines()][::-1]
    rows = [rows[(7 * i) % 300] | {"kind": "docs", "day": f"day {i % 2}"} for i in range(300)]
    odd = [
        {"text": f"Where is the cat number {i}?", "label": "cats", "kind": "cats", "day": "day 1"} for i in range(40)
    ]
    for name, part in (("old", rows[:180]), ("new", rows[180:]), ("odd", rows[180:] + odd)):
        keyed = [row | {"key": f"{name} {i}"} for i, row in enumerate(part)]
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in keyed))
        options = ("--key-column", "key", "--label-column", "label", "--metadata-column", "*", "--precision", "fp32")
        make("embed", directory / f"{name}.jsonl", "--model", MINILM, "--out", directory / f"{name}.store", *options)
    return directory / "old.store", directory / "new.store", directory / "odd.store"


def test_no_drift_is_said_in_one_sentence(cli: Cli, stores: tuple[Path, ...]) -> None:
    shown = cli("drift", stores[0], stores[1], "--fail-on-drift")
    assert shown.code == 0
    assert shown.out.startswith("no drift  as far as 120 of the new items can tell, they are like the reference")
    assert "one in 100 comparisons where nothing has changed" in shown.out
    assert "least like" not in shown.out


def test_drift_is_explained_and_can_fail_a_script(cli: Cli, stores: tuple[Path, ...], tmp_path: Path) -> None:
    old, _, odd = stores
    shown = cli("drift", old, odd, "--by", "day")
    assert shown.code == 0
    assert shown.out.startswith("drift  the new items differ")
    assert "label cats, kind cats, day day 1" in shown.out
    assert "kind = cats" in shown.out
    assert "1 alarm in 2 windows, by chance 0.02" in shown.out

    page = tmp_path / "drift.html"
    found = cli("drift", old, odd, "--window", 80, "--report", page, "--fail-on-drift", "--json")
    assert found.code == 1
    assert f"error: {odd} has drifted from {old} (p = 0.001, false alarms 0.01)" in found.err
    assert found.json["drift"] is True
    assert found.json["driving"]["items"][0]["metadata"]["kind"] == "cats"
    assert [one["drift"] for one in found.json["windows"]] == [False, True]
    assert found.json["refit"] is None
    html = page.read_text()
    assert "odd.store against old.store: drift" in html
    assert "Drift over time" in html
    assert "label cats, kind cats" in html
    assert "src=" not in html.split("</script>", 1)[1], "nothing is loaded from elsewhere"


def test_a_head_is_trained_again(cli: Cli, stores: tuple[Path, ...], tmp_path: Path) -> None:
    old, _, odd = stores
    make("probe", old, "--labels", "label", "--out", tmp_path / "old.head", "--head", "lda")
    options = ("--refit", tmp_path / "old.head", "--labels", "label", "--out", tmp_path / "new.head")
    shown = cli("drift", old, odd, *options, "--json")
    refit = shown.json["refit"]
    assert refit["new_classes"] == ["cats"]
    assert refit["after"] > refit["before"]
    assert cli("predict", tmp_path / "new.head", odd, "--json").json["counts"]["cats"] > 30
    missing = cli("drift", old, odd, *options[:2])
    assert missing.code == 2
    assert "give all three" in " ".join(missing.err.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda store, directory: (store, directory / "nowhere"), "no such directory"),
        (lambda store, directory: (store, store, "--level", 2), "level is 2.0, expected a rate of false alarms"),
        (lambda store, directory: (store, store, "--by", "week"), "no metadata column 'week'"),
        (lambda store, directory: (store, store, "--window", 3), "a window of 3 items is too small"),
    ],
)
def test_errors_are_one_line(
    cli: Cli, stores: tuple[Path, ...], options: Callable[..., tuple[object, ...]], message: str, tmp_path: Path
) -> None:
    shown = cli("drift", *options(stores[0], tmp_path))
    assert shown.code == 1
    (line,) = shown.err.splitlines()
    assert message in line
