"""SIGKILL at 30 random moments of real runs over real files; the last one ends with the bytes of an undisturbed run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coldpress
from coldpress.store import EmbeddingStore

KILLS = 30

# Imports once, then runs in a fork for each line it reads: thirty imports of torch would take longer than the runs.
LAUNCHER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from conftest import SPEC, small_network
from coldpress import Extractor, from_module
extractor = Extractor(from_module(small_network(), SPEC, name="one layer"), device="cpu")
for line in sys.stdin:
    out, source, again = line.split()
    child = os.fork()
    if child == 0:
        extractor.run(out, source, shard_rows=25, workers=2, retry_failed=again == "again")
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@contextmanager
def launcher(again: str = "no") -> Iterator[Callable[[Path, Path], Iterator[int]]]:
    package = Path(coldpress.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", LAUNCHER, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def run(out: Path, source: Path) -> Iterator[int]:
            """The process id of a run that has begun, then its exit status."""
            stdin.write(f"{out} {source} {again}\n")
            stdin.flush()
            yield int(stdout.readline())
            yield int(stdout.readline())

        yield run
        stdin.close()


def photos_below(folder: Path, numbers: range) -> Path:
    noise = np.random.default_rng(numbers.start)
    folder.mkdir(exist_ok=True)
    for i in numbers:
        pixels = np.kron(noise.integers(0, 256, (15, 20, 3), dtype=np.uint8), np.ones((20, 20, 1), np.uint8))
        Image.fromarray(pixels).save(folder / f"{i:04d}.jpg")
    return folder


@pytest.mark.slow
def test_thirty_kills_leave_no_trace(tmp_path: Path, snapshot: Callable[[Path], dict[str, bytes]]) -> None:
    photos = photos_below(tmp_path / "photos", range(1000))
    for i in range(0, 1000, 90):
        (photos / f"{i:04d}-broken.jpg").write_bytes(b"\xff\xd8 no photo")
        (photos / f"{i:04d}-again.jpg").write_bytes((photos / f"{(i * 7) % 1000:04d}.jpg").read_bytes())
    draw = random.Random(0)
    with launcher() as launch:
        assert list(launch(tmp_path / "whole", photos))[1] == 0
        begin = time.monotonic()
        assert list(launch(tmp_path / "timed", photos))[1] == 0
        duration_s = time.monotonic() - begin
        killed, finished, states = 0, 0, set()
        while killed < KILLS:
            out = tmp_path / f"killed-{finished}"
            run = launch(out, photos)
            pid = next(run)
            time.sleep(draw.uniform(0, duration_s))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if next(run) == signal.SIGKILL:
                killed += 1
                if (out / "manifest.json").exists():
                    store = EmbeddingStore(out)
                    store.verify()
                    states.add(store.inputs)
            else:  # it had come to its end: begin another one
                finished += 1
        assert len(states) >= 5, "the kills must have hit runs in the middle"
        for number in range(finished + 1):
            assert list(launch(tmp_path / f"killed-{number}", photos))[1] == 0
            assert snapshot(tmp_path / f"killed-{number}") == snapshot(tmp_path / "whole")
    store = EmbeddingStore(tmp_path / "whole")
    assert (store.inputs, store.failed, store.duplicates) == (1024, 12, 12)


def wait_for_commits(out: Path, count: int) -> None:
    """Until the manifest has been replaced so often; not for ever, since the run may be over before."""
    seen, end = set(), time.monotonic() + 1
    while len(seen) <= count and time.monotonic() < end:
        seen.add((out / "manifest.json").stat().st_ino)
        time.sleep(0.001)


@pytest.mark.slow
def test_kills_while_failures_are_tried_again_leave_no_trace(
    tmp_path: Path, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    photos = photos_below(tmp_path / "photos", range(400))
    good = {path: path.read_bytes() for path in sorted(photos.iterdir())[::2]}
    for path in good:
        path.write_bytes(b"\xff\xd8 no photo")
    with launcher() as launch:
        assert list(launch(tmp_path / "begun", photos))[1] == 0
    for path in list(good)[::3]:  # every third is repaired, the others fail again
        path.write_bytes(good[path])
    photos_below(photos, range(400, 600))
    draw, states = random.Random(0), set()
    with launcher("again") as launch:
        shutil.copytree(tmp_path / "begun", tmp_path / "whole")
        assert list(launch(tmp_path / "whole", photos))[1] == 0
        for number in range(8):
            out = tmp_path / f"killed-{number}"
            shutil.copytree(tmp_path / "begun", out)
            status = int(signal.SIGKILL)
            while status == signal.SIGKILL:
                run = launch(out, photos)
                pid = next(run)
                wait_for_commits(out, draw.randint(0, 3))
                time.sleep(draw.uniform(0, 0.03))
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                status = next(run)
                store = EmbeddingStore(out)
                store.verify()
                keys = store.outcomes.column("key").to_pylist()
                assert len(set(keys)) == len(keys) == store.inputs
                states.add(len(store))
            assert status == 0
            assert snapshot(out) == snapshot(tmp_path / "whole")
    assert len(states) >= 4, "the kills must have hit runs in the middle"
