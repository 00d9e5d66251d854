"""SIGINT and SIGTERM to a real process: the shard under way is finished, a second signal does not wait for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import coldpress
from coldpress.cli._format import duration
from coldpress.cli._progress import ProgressDisplay
from coldpress.engine import Progress
from coldpress.store import EmbeddingStore

SENTENCE = "a frozen backbone is never trained again and gives the same vectors every time it is asked for them"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("".join(f"{SENTENCE[: i % 60 + 40]} {i}\n" for i in range(20_000)), encoding="utf-8")
    return path


def start(texts: Path, out: Path, shard_rows: int) -> subprocess.Popen[str]:
    package = Path(coldpress.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])}
    command = ["embed", texts, "--model", "all-MiniLM-L6-v2", "--out", out, "--shard-rows", shard_rows, "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "coldpress", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_finishes_the_shard(texts: Path, tmp_path: Path, number: int, status: int) -> None:
    process = start(texts, tmp_path / "out", 512)
    wait_for(tmp_path / "out/embeddings/part-00000.npy", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "finishing the shard under way" in err
    assert "Traceback" not in err
    summary = json.loads(out.splitlines()[-1])
    assert summary["interrupted"] is True
    assert 0 < summary["inputs"] < 20_000
    assert summary["inputs"] % 512 == 0
    store = EmbeddingStore(tmp_path / "out")
    assert store.inputs == summary["inputs"]
    store.verify()


@pytest.mark.slow
def test_a_second_signal_stops_at_once_and_loses_no_shard(texts: Path, tmp_path: Path) -> None:
    process = start(texts, tmp_path / "out", 15_000)
    wait_for(tmp_path / "out/embeddings/.part-00000.npy.tmp", process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any("finishing the shard" in line for line in iter(process.stderr.readline, ""))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: 0 inputs are safe" in err
    assert "Traceback" not in err
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_a_shard_under_way_is_said_to_take_what_is_left_of_it() -> None:
    display = ProgressDisplay()
    assert display.left_of_shard(1000) == ""
    display(Progress(0, None, 0, 0, 10.0))
    display(Progress(2400, None, 0, 0, 34.0))
    assert display.left_of_shard(1000) == duration(6)
    display(Progress(2400, 2500, 0, 0, 34.0))
    assert display.left_of_shard(1000) == duration(1)
