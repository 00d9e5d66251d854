"""``coldpress info``: this machine, or what a model, store, index or head is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from coldpress._urls import is_url
from coldpress.cli import _machine, _model, _things
from coldpress.cli import _options as options
from coldpress.cli._command import Command, Result


def info(
    what: Annotated[
        str | None,
        typer.Argument(metavar="MODEL|STORE|INDEX|HEAD", help="Left out: this machine.", show_default=False),
    ] = None,
    modality: options.ModalityOption = None,
    arch: options.Arch = None,
) -> Result:
    """Show what coldpress has to work with here, or what a model, store, index or head is."""
    asked = modality is not None or arch is not None
    if what is None and asked:
        raise typer.BadParameter("--modality and --arch say more about a MODEL: name one")
    if what is None:
        return _machine.describe()
    made = None if asked else _describe_made(what)
    return made or _model.describe_model(what, None if modality is None else modality.of(), arch)


def _describe_made(what: str) -> Result | None:
    """Describe what coldpress has made; None of anything else."""
    from coldpress.store import is_store

    if is_url(what) or is_store(what):
        return _things.describe_store(what)
    path = Path(what)
    if (path / "index.json").is_file() and _format(path / "index.json") == "coldpress-index":
        return _things.describe_index(path)
    if (path / "head.safetensors").is_file():
        return _things.describe_head(path)
    return None


def _format(path: Path) -> object:
    try:
        return json.loads(path.read_bytes()).get("format")
    except (OSError, ValueError, AttributeError):
        return None


COMMAND = Command(
    info,
    group="Start here",
    position=2,
    examples=(
        "coldpress info",
        "coldpress info photos.store",
        "coldpress info all-MiniLM-L6-v2 --json",
        "coldpress info ./clip --modality text",
    ),
)
