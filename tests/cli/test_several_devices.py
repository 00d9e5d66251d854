"""``embed --device`` with several devices, and ``--ray``."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

NOTES = "".join(f"note {i}\n" for i in range(40))


@pytest.mark.parametrize("more", [("--device", "2xcpu"), ("--ray", "local")])
def test_the_same_store_as_of_one_process(cli, tmp_path: Path, minilm: Path, more: tuple[str, str]):
    if more[0] == "--ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    (tmp_path / "notes.txt").write_text(NOTES, encoding="utf-8")
    run = ("embed", tmp_path / "notes.txt", "--model", minilm, "--precision", "int8", "--json")
    alone, shared = cli(*run, "--out", tmp_path / "alone"), cli(*run, *more, "--out", tmp_path / "shared")
    assert (alone.code, shared.code) == (0, 0), shared.err
    assert shared.json["rows"] == 40
    for file in ("manifest.json", "embeddings/part-00000.npy", "metadata/part-00000.parquet"):
        assert (tmp_path / "shared" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()


def test_what_cannot_be_is_said_in_one_line(cli, tmp_path: Path, minilm: Path):
    (tmp_path / "notes.txt").write_text(NOTES, encoding="utf-8")
    run = ("embed", tmp_path / "notes.txt", "--model", minilm, "--out", tmp_path / "store")
    assert "expected a name such as cuda:1, 2xcpu or all" in cli(*run, "--device", "2xcpu,").err
    nowhere = cli(*run, "--ray", "127.0.0.1:1")
    assert nowhere.code == 1
    if importlib.util.find_spec("ray") is not None:
        assert nowhere.err.endswith("--ray 127.0.0.1:1: no cluster answers there: Connection refused\n")


def test_planning_and_stopping_in_time(cli, tmp_path: Path, minilm: Path):
    (tmp_path / "notes.txt").write_text(NOTES, encoding="utf-8")
    run = ("embed", tmp_path / "notes.txt", "--model", minilm, "--precision", "int8", "--out", tmp_path / "store")
    planned = cli(*run, "--plan", "--price", "2.5", "--json")
    assert planned.code == 0, planned.err
    assert (planned.json["inputs"], planned.json["cost"]) == (40, pytest.approx(planned.json["machine_hours"] * 2.5))
    shown = cli(*run, "--plan").out
    assert re.search(r"40 \(\d+ B\)", shown)
    assert re.search(r"stages .*certify \d", shown)
    assert not (tmp_path / "store").exists()
    stopped = cli(*run, "--shard-rows", "20", "--price", "2.5", "--max-cost", "0", "--json")
    assert (stopped.code, stopped.json["interrupted"], stopped.json["inputs"]) == (0, True, 20)
    assert cli(*run, "--shard-rows", "20", "--max-hours", "1", "--json").json["inputs"] == 40
    assert cli(*run, "--max-cost", "1").code == 2
