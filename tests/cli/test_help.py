from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import coldpress
from coldpress.cli._command import commands

NAMES = [command.name for command in commands()]
HEAVY = {"torch", "numpy", "faiss", "sklearn", "pyarrow", "plotly", "PIL"}


def test_the_commands_are_those_that_work() -> None:
    assert NAMES == [
        "demo",
        "info",
        "bench",
        "embed",
        "certify",
        "index",
        "search",
        "serve",
        "probe",
        "predict",
        "assess",
        "drift",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_help_of_every_command_shows_how_it_is_used(cli: Callable[..., Any], name: str) -> None:
    shown = cli(name, "--help")
    assert shown.code == 0
    assert f"$ coldpress {name}" in shown.out
    assert "--json" in shown.out
    assert "--debug" in shown.out


def test_help_lists_every_command(cli: Callable[..., Any]) -> None:
    shown = cli("--help").out
    assert all(f" {name} " in shown for name in NAMES)


def test_help_imports_nothing_heavy() -> None:
    """What makes ``--help`` answer in a fifth of a second instead of two."""
    code = f"import sys; from coldpress.cli._command import build_app; build_app(); print({HEAVY!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_version(cli: Callable[..., Any]) -> None:
    assert cli("--version").out.strip() == f"coldpress {coldpress.__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed",),
        ("embed", "a.txt", "--model", "m", "--out", "o", "--dtype", "int4"),
        ("embed", "a.txt", "--model", "m", "--out", "o", "--limit", "0"),
        ("embed", "a.txt", "--model", "m", "--out", "o", "--fast-decode", "--gpu-decode", "50"),
        ("search", "an.index"),
        ("search", "an.index", "--text", "a", "--key", "b"),
        ("search", "an.index", "--text", " "),
        ("predict", "a.head", "a.txt", "--out", "predictions.xlsx"),
        ("serve",),
        ("serve", "--index", "i", "--precision", "fp32"),
        ("serve", "--new-key", "alice"),
        ("no-such-command",),
        ("info", "--no-such-option"),
    ],
)
def test_bad_usage_exits_2(cli: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Usage:" in done.err
