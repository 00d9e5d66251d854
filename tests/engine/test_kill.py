"""SIGKILL at 30 random moments of real runs over real files; the last one ends with the bytes of an undisturbed run."""

from __future__ import annotations

import os
import random
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
    out, source = line.split()
    child = os.fork()
    if child == 0:
        extractor.run(out, source, shard_rows=25, workers=2)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@contextmanager
def launcher() -> Iterator[Callable[[Path, Path], Iterator[int]]]:
    package = Path(coldpress.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", LAUNCHER, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def run(out: Path, source: Path) -> Iterator[int]:
            """The process id of a run that has begun, then its exit status."""
            stdin.write(f"{out} {source}\n")
            stdin.flush()
            yield int(stdout.readline())
            yield int(stdout.readline())

        yield run
        stdin.close()


@pytest.mark.slow
def test_thirty_kills_leave_no_trace(tmp_path: Path, snapshot: Callable[[Path], dict[str, bytes]]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0)
    for i in range(1000):
        pixels = np.kron(noise.integers(0, 256, (15, 20, 3), dtype=np.uint8), np.ones((20, 20, 1), np.uint8))
        Image.fromarray(pixels).save(photos / f"{i:04d}.jpg")
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
