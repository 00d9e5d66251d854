"""A folder as people have them: good photos between files that are none."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coldpress import EmbeddingStore

Cli = Callable[..., Any]

BROKEN = {"empty.jpg", "text.jpg", "truncated.jpg"}


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


def jpeg(seed: int, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).resize((96, 72)).convert(mode).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("folder")
    files = {f"{number}.jpg": jpeg(number) for number in range(4)}
    files |= {"copy-of-0.jpg": jpeg(0), "cmyk.jpg": jpeg(7, "CMYK")}
    files |= {"empty.jpg": b"", "text.jpg": b"these are words\n", "truncated.jpg": jpeg(8)[:700]}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


def test_bad_files_are_named_and_the_run_goes_on(cli: Cli, folder: Path, tiny_vit: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli("embed", folder, "--model", tiny_vit, "--out", out)
    assert done.code == 0
    assert all(name in done.out for name in BROKEN)
    store = EmbeddingStore(out)
    assert (len(store), store.failed, store.duplicates, store.inputs) == (6, 3, 1, 9)
    assert "cmyk.jpg" in store.keys
    failed = {row["key"]: row["reason"] for row in store.outcomes.to_pylist() if row["status"] == "failed"}
    assert failed.keys() == BROKEN
    assert all(failed.values())
    information = cli("info", out)
    assert all(reason in information.out for reason in failed.values())


def test_json_names_the_first_failures(cli: Cli, folder: Path, tiny_vit: Path, tmp_path: Path) -> None:
    done = cli("embed", folder, "--model", tiny_vit, "--out", tmp_path / "out", "--json").json
    assert done["rows"] + done["failed"] == done["inputs"] == 9
    assert {failure["key"] for failure in done["failures"]} == BROKEN


def test_on_error_fail_stops_at_the_first(cli: Cli, folder: Path, tiny_vit: Path, tmp_path: Path) -> None:
    done = cli("embed", folder, "--model", tiny_vit, "--out", tmp_path / "out", "--on-error", "fail")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "empty.jpg" in done.err


def test_an_image_finds_itself(cli: Cli, folder: Path, tiny_vit: Path, tmp_path: Path) -> None:
    store, index = tmp_path / "store", tmp_path / "index"
    assert cli("embed", folder, "--model", tiny_vit, "--out", store, "--output", "cls,layer:1").code == 0
    assert cli("index", store, "--out", index, "--output", "layer:1").code == 0
    query = ("search", index, "--image", folder / "2.jpg", "-k", 1, "--output", "layer:1")
    assert cli(*query, "--json").json["hits"][0]["key"] == "2.jpg"
    assert cli("search", index, "--text", "a dog").code == 2
