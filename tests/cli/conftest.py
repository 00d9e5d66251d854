"""The real command line on real texts and the real packaged model; whatever takes seconds is made once."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coldpress.cli import main
from coldpress.cli._demo import corpus as documentation

MINILM = "all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out.splitlines()[-1])


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command in this process: importing torch anew for each would take longer than all the rest."""
    monkeypatch.setattr(logging.getLogger("coldpress"), "handlers", [])

    def run(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Outcome(int(exit_.value.code or 0), printed.out, printed.err)

    return run


def run_process(*arguments: object) -> Outcome:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "coldpress", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def process() -> Cli:
    """Run a command in a process of its own."""
    return run_process


def make(*arguments: object) -> None:
    """Run a command for a fixture; it has to succeed."""
    done = run_process(*arguments)
    assert done.code == 0, done.err


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 texts of four labels."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    documentation.write(path, documentation.collect(100))
    return path


@pytest.fixture(scope="session")
def embedding(texts: Path) -> list[str]:
    """The arguments that embed them, but for ``--out``."""
    return ["embed", str(texts), "--model", MINILM, "--key-column", "key", "--label-column", "label"]


@pytest.fixture(scope="session")
def store(embedding: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "texts.store"
    make(*embedding, "--out", path)
    return path


@pytest.fixture(scope="session")
def index(store: Path) -> Path:
    path = store.with_suffix(".index")
    make("index", store, "--out", path)
    return path


@pytest.fixture(scope="session")
def head(store: Path) -> Path:
    path = store.with_suffix(".head")
    make("probe", store, "--labels", "label", "--out", path)
    return path


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT with random weights, in the layout of Hugging Face."""
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("models") / "tiny-vit"
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8), add_pooling_layer=False).save_pretrained(directory)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tagged(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The texts with their numbers of words, and with tags."""
    rows = [json.loads(line) for line in texts.read_text().splitlines()]
    for row in rows:
        row["words"] = len(row["text"].split())
        row["tags"] = [row["label"], *(["long"] if row["words"] > 20 else [])]
    path = tmp_path_factory.mktemp("tagged")
    (path / "tagged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = (
        "--key-column",
        "key",
        "--text-column",
        "text",
        "--metadata-column",
        "words",
        "--metadata-column",
        "tags",
    )
    make("embed", path / "tagged.jsonl", "--model", "all-MiniLM-L6-v2", "--out", path / "store", *columns)
    return path / "store"
