"""bench: the machine's limits, and a model against them."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from coldpress.bench import Disk, Limits, Peak, measure_peaks, write_photos
from coldpress.cli._bench_tables import render_limits
from coldpress.preprocess.image import ImagePreprocessor
from coldpress.types import ImageInput, ImageSpec

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


def test_bench_measures_machine_modes_and_stages(cli: Cli, texts: Path, folder: Path) -> None:
    arguments = ("bench", "--data", texts, "--text-column", "text", "--limit", 40, "--out", folder, "--threads", 1)
    done = cli(*arguments, "--json")
    assert done.code == 0, done.err
    measured = done.json
    peaks = {peak["arithmetic"]: peak for peak in measured["limits"]["peaks"]}
    assert set(peaks) == {"fp32", "int8", "int16", "bf16"}
    assert peaks["fp32"]["all"] > 1e8
    assert [level["level"] for level in measured["limits"]["memory"]][-1] == "DRAM"
    assert measured["limits"]["disk"]["write"] > 0
    assert 0 < measured["limits"]["free_share"] <= 1
    assert (measured["items"], measured["modality"]) == (40, "text")
    assert measured["flop_per_item"] == pytest.approx(21.2e6 * measured["tokens_per_item"], rel=0.01)
    for mode in measured["modes"]:
        assert mode["certificate"]["passed"]
        assert mode["store_per_s"] > 0
        assert [stage["name"] for stage in mode["stages"]] == ["read", "preprocess", "compute", "write"]
        assert mode["peak_share"] is None or mode["peak_share"] > 0
    assert list(folder.iterdir()) == []


def test_bench_shows_tables_that_fit_a_terminal(
    cli: Cli, texts: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = cli("bench", "--data", texts, "--text-column", "text", "--limit", 40, "--out", folder, "--threads", 1).out
    for words in (
        "arithmetic",
        "DRAM",
        "disk",
        "all-MiniLM-L6-v2 on 40 texts",
        "mean cosine",
        "compute",
        "limits this",
    ):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown


def test_bench_takes_image_models_without_any_data(cli: Cli, shared: Path, folder: Path) -> None:
    model = shared / "models" / "cifar10_nanovit_timm"
    if not (model / "config.json").is_file():
        model = shared / "models" / "mobilenet_v1_0.25_128_imagenet"
        pytest.importorskip("transformers")
    done = cli("bench", model, "--limit", 32, "--out", folder, "--json")
    assert done.code == 0, done.err
    assert done.json["modality"] == "image"
    assert done.json["tokens_per_item"] is None
    assert done.json["prepared_alone_per_s"] > 0


def test_bench_refuses_a_directory_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    done = cli("bench", "--out", tmp_path / "missing")
    assert done.code == 2
    assert "missing" in done.err


def test_bench_says_when_others_use_the_machine() -> None:
    disk = Disk("/stores", 1e9, 2e9, cached=False)
    shown = {}
    for free in (0.5, 1.0):
        console = Console(record=True, width=80, file=StringIO())
        render_limits(console, "a processor", Limits(2, free, (Peak("int8", None, None),), (), disk))
        shown[free] = console.export_text()
    assert "Other programs take 50% of the processor" in shown[0.5]
    assert "Other programs" not in shown[1.0]
    assert "no vpdpbusd here" in shown[1.0]


def test_peaks_are_those_of_the_instruction_set(isa: str) -> None:
    peaks = {peak.arithmetic: peak.one for peak in measure_peaks(1)}
    assert peaks["fp32"]
    assert (peaks["int8"] is not None) == (peaks["int16"] is not None) == (isa == "avx512-vnni")


def test_made_up_photos_are_photos(tmp_path: Path) -> None:
    write_photos(tmp_path, 3)
    files = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert len({*files}) == 3
    spec = ImageSpec(("shortest_edge", 32), (32, 32), "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3)
    assert all(isinstance(image, ImageInput) for image in ImagePreprocessor(spec)(files))
    assert 80_000 < sum(map(len, files)) / 3 < 150_000
