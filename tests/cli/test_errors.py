from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coldpress.cli._progress import ProgressDisplay
from coldpress.engine import Progress

Cli = Callable[..., Any]
MINILM = "all-MiniLM-L6-v2"


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", "nowhere.txt", "--model", MINILM, "--out", "out"),
        ("embed", "nowhere.txt", "--model", "./no-such-model", "--out", "out"),
        ("index", "nowhere", "--out", "out"),
        ("search", "nowhere", "--text", "a"),
        ("probe", "nowhere", "--labels", "label", "--out", "out"),
        ("predict", "nowhere", "a.txt"),
        ("info", "./nowhere"),
    ],
)
def test_failure_is_one_line_on_standard_error(
    cli: Cli, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(*arguments, "--json")
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("coldpress: error: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("name", ["reviews.head", "photos.store/", "/nowhere", "a.safetensors"])
def test_a_place_that_is_missing_is_not_looked_for_on_the_hub(cli: Cli, name: str) -> None:
    assert f"{name} does not exist" in cli("info", name).err


def test_a_model_named_twice_is_refused(cli: Cli, texts: Path, tmp_path: Path) -> None:
    done = cli("embed", texts, "--model", MINILM, "--model", MINILM, "--out", tmp_path / "out")
    assert done.code == 2
    assert "named 2 times" in done.err


@pytest.mark.parametrize("seed", [-1, 2**31])
@pytest.mark.parametrize(
    "arguments",
    [
        ("assess", "STORE", "--labels", "label"),
        ("drift", "STORE", "STORE"),
        ("index", "STORE", "--out", "index"),
        ("probe", "STORE", "--labels", "label", "--out", "head.safetensors"),
        ("certify", MINILM),
    ],
)
def test_a_seed_that_no_generator_takes_is_refused(
    cli: Cli, arguments: tuple[str, ...], seed: int, tmp_path: Path
) -> None:
    done = cli(*(tmp_path if word == "STORE" else word for word in arguments), "--seed", seed)
    assert done.code == 2
    assert "--seed" in done.err


@pytest.mark.parametrize("arguments", [("--debug", "index", "nowhere"), ("index", "nowhere", "--debug")])
def test_debug_shows_the_traceback(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments, "--out", "out")
    assert done.code == 1
    assert "Traceback" in done.err


def test_a_missing_mode_is_an_error_of_its_own(cli: Cli, texts: Path, tmp_path: Path) -> None:
    done = cli("embed", texts, "--model", MINILM, "--out", tmp_path / "out", "--precision", "fp8")
    assert done.code == 1
    assert "fp8" in done.err
    assert not (tmp_path / "out").exists()


def test_json_is_the_last_line_of_a_real_process(process: Cli, store: Path) -> None:
    done = process("info", store, "--json")
    assert done.code == 0
    assert done.json["rows"] == 100


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay() as show:
        for second in range(31):
            show(Progress(done=100 * (second + 1), total=10_000, failed=3, duplicates=0, seconds=float(second)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0] == "coldpress: 1,100 of 10,000 inputs, 3 failed, 100/s, 1 min 29 s left"
