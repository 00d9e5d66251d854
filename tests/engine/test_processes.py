"""Several processes write the store that one would have written, whatever happens to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import dying_worker
import pytest
import torch

from coldpress import Extractor, from_module
from coldpress.distributed import embed, parse_devices
from coldpress.distributed.processes import ProcessCrew
from coldpress.distributed.worker import pack
from coldpress.errors import ColdpressError, ItemError
from coldpress.store import EmbeddingStore

Paint = Callable[[Path, int], Path]
Snapshot = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> Path:
    """150 photos: some broken, some with the content of an earlier one."""
    for i in range(150):
        paint(tmp_path / "photos" / f"{i:03d}.jpg", i % 130)
    for i in range(0, 150, 40):
        (tmp_path / "photos" / f"{i:03d}-broken.jpg").write_bytes(b"\xff\xd8 no photo")
    return tmp_path / "photos"


def children(parent: int | None = None) -> list[int]:
    """Worker processes of a process, by default of this one."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(parent or os.getpid())]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in shown.stdout.splitlines() if "coldpress.distributed.worker" in line]


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_the_same_bytes_and_counts(photo_extractor, photos: Path, tmp_path: Path, snapshot: Snapshot, precision: str):
    extractor = Extractor(photo_extractor.model, device="cpu", precision=precision)
    alone = extractor.run(tmp_path / "alone", photos, shard_rows=40)
    shared = embed(photos, extractor, tmp_path / "shared", devices="2xcpu", shard_rows=40)
    assert snapshot(tmp_path / "shared") == snapshot(tmp_path / "alone")
    counts = ("inputs", "rows", "failed", "duplicates", "processed", "computed", "precision", "certificate")
    assert [getattr(shared, name) for name in counts] == [getattr(alone, name) for name in counts]
    assert (alone.processes, shared.processes) == (1, 2)
    assert shared.stages.keys() == alone.stages.keys()
    assert min(shared.stages[name] for name in ("read", "decode", "compute")) > 0
    assert children() == []


def test_texts_and_their_metadata(minilm: Path, tmp_path: Path, snapshot: Snapshot):
    source = tmp_path / "notes.txt"
    source.write_text("".join(f"note {i % 300} about {'many ' * (i % 300 % 7)}things\n" for i in range(700)), "utf-8")
    extractor = Extractor(minilm, device="cpu", precision="int8", output="pooled,tokens")
    extractor.run(tmp_path / "alone", source, shard_rows=300)
    shared = embed(source, extractor, tmp_path / "shared", devices=["cpu", "cpu"], shard_rows=300)
    assert snapshot(tmp_path / "shared") == snapshot(tmp_path / "alone")
    assert shared.duplicates == 400


def test_stopped_by_one_and_continued_by_several(photo_extractor, photos, tmp_path, snapshot, paint):
    photo_extractor.run(tmp_path / "alone", photos, shard_rows=40)
    stopped = embed(
        photos, photo_extractor, tmp_path / "shared", devices="2xcpu", shard_rows=40, should_stop=lambda: True
    )
    assert (stopped.interrupted, stopped.inputs) == (True, 40)
    photo_extractor.run(tmp_path / "shared", photos, shard_rows=40, should_stop=lambda: True)
    embed(photos, photo_extractor, tmp_path / "shared", devices="2xcpu", shard_rows=40)
    assert snapshot(tmp_path / "shared") == snapshot(tmp_path / "alone")
    paint(photos / "zzz.jpg", 500)
    grown = embed(photos, photo_extractor, tmp_path / "shared", devices="2xcpu", shard_rows=40)
    assert (grown.processed, grown.computed) == (1, 1)


def test_a_killed_worker_is_replaced(photo_extractor, photos: Path, tmp_path: Path, snapshot: Snapshot):
    photo_extractor.run(tmp_path / "alone", photos, shard_rows=40)
    killed: list[int] = []

    def kill_one(_: object) -> None:
        if len(killed) < 2 and (found := children()):
            killed.append(found[0])
            os.kill(found[0], signal.SIGKILL)

    embed(photos, photo_extractor, tmp_path / "shared", devices="2xcpu", shard_rows=40, on_progress=kill_one)
    assert killed
    assert snapshot(tmp_path / "shared") == snapshot(tmp_path / "alone")


@pytest.fixture
def executioner() -> Iterator[None]:
    """Kills every worker as soon as it is there."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.05):
            for child in children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.usefixtures("executioner")
def test_workers_that_are_always_lost_end_the_run_with_one_error(photo_extractor, photos: Path, tmp_path: Path):
    with pytest.raises(ColdpressError, match=r"^3 worker processes were lost .*signal 9\) over the inputs"):
        embed(photos, photo_extractor, tmp_path / "store", devices="2xcpu", shard_rows=40)
    assert EmbeddingStore(tmp_path / "store").inputs == 0


def test_what_a_lost_worker_had_besides_is_done_again(tmp_path: Path):
    """Its process is buried by the thread of one chunk while that of another answers its question."""
    crew = ProcessCrew(pack(dying_worker.fatal, tmp_path / "died"), ["cpu"], threads=1)
    with ThreadPoolExecutor(2) as pool, crew:
        first = pool.submit(crew, 0, lambda hashes: [False] * len(hashes))

        def known(hashes: Sequence[str]) -> Sequence[bool]:
            first.result(60)  # by another process
            return [False] * len(hashes)

        second = pool.submit(crew, 1, known)
        assert (first.result(60), second.result(60)) == (0, 1)


def test_a_delivery_that_cannot_be_sent_is_no_end_of_the_run(tmp_path: Path):
    with (
        ThreadPoolExecutor(1) as pool,
        ProcessCrew(pack(dying_worker.unsendable, tmp_path / "died"), ["cpu"], threads=1) as crew,
    ):
        assert pool.submit(crew, 7, lambda hashes: [False] * len(hashes)).result(60) == 7


def test_an_error_of_a_worker_is_the_error_of_the_run(photo_extractor, photos, tmp_path):
    with pytest.raises(ItemError, match="--on-error skip"):
        embed(photos, photo_extractor, tmp_path / "store", devices="2xcpu", on_error="fail")
    local = type("Local", (torch.nn.Flatten,), {})  # cannot be found by name in another process
    with pytest.raises(ColdpressError, match=r"^local cannot be sent to another process .* importable file$"):
        embed(
            photos,
            Extractor(from_module(local(), photo_extractor.model.spec, name="local")),
            tmp_path / "other",
            devices="2xcpu",
        )


def test_devices_by_name():
    assert parse_devices("3xcpu") == ("cpu",) * 3
    assert parse_devices("cuda:0,cuda:1") == ("cuda:0", "cuda:1")
    for wrong in ("", "cpu,", "0xcpu"):
        with pytest.raises(ColdpressError, match="expected a name such as"):
            parse_devices(wrong)
    if not torch.cuda.is_available():
        with pytest.raises(ColdpressError, match="no GPU here"):
            parse_devices("all")


WRITER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from conftest import SPEC, small_network
from coldpress import Extractor, from_module
from coldpress.distributed import embed
extractor = Extractor(from_module(small_network(), SPEC, name="one layer"), device="cpu", precision="fp32")
def say(_):
    print("on", flush=True)
embed(sys.argv[2], extractor, sys.argv[3], devices="2xcpu", shard_rows=70, on_progress=say)
"""


def test_killed_and_continued_without_a_trace(photo_extractor, photos: Path, tmp_path: Path, snapshot: Snapshot):
    """The process that writes is killed in the middle: no worker outlives it, and the next run ends with the same."""
    photo_extractor.run(tmp_path / "alone", photos, shard_rows=70)
    command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(photos), str(tmp_path / "shared")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        for _ in range(2):
            assert writer.stdout is not None
            writer.stdout.readline()
        workers = children(writer.pid)
        assert len(workers) == 2
        writer.kill()
    end = time.monotonic() + 30
    while time.monotonic() < end and any(Path(f"/proc/{worker}").exists() for worker in workers):
        time.sleep(0.05)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    embed(photos, photo_extractor, tmp_path / "shared", devices="2xcpu", shard_rows=70)
    assert snapshot(tmp_path / "shared") == snapshot(tmp_path / "alone")
