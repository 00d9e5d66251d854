"""The limits of a machine: arithmetic by type, memory by the cache that holds the data, the disk of a directory."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coldpress import _library

INSTRUCTIONS = {"fp32": "multiply-add", "int8": "vpdpbusd", "int16": "vpdpwssd", "bf16": "vdpbf16ps"}
"""The arithmetic types, and the instruction that each is measured with."""

ROUND_S = 0.02
"""Long enough that starting threads costs nothing, short enough to find a moment when nobody else runs."""

TRIES = 6
FREE_S = 0.3
DISK_BYTES, BLOCK = 128 << 20, 4 << 20
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True, slots=True)
class Peak:
    """Operations per second, a multiply-add counted as two, of one core and of all; None without the instruction."""

    arithmetic: str
    one: float | None
    all: float | None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes per second of one core and of all, out of the memory `level` that holds `size` bytes.

    A copy counts what is read and what is written.
    """

    level: str
    size: int
    read_one: float
    read_all: float
    copy_one: float
    copy_all: float


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes per second, flushed to the disk when written; `cached` where reads could not go around the page cache."""

    directory: str
    write: float
    read: float
    cached: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """All of them; `free_share` of the processor was ours while measuring, less than one where others use it."""

    threads: int
    free_share: float
    peaks: tuple[Peak, ...]
    memory: tuple[Memory, ...]
    disk: Disk

    def peak(self, precision: str) -> float | None:
        """Operations per second of all cores in the arithmetic of a mode, where it is known."""
        return next((peak.all for peak in self.peaks if peak.arithmetic == precision), None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def measure_limits(directory: Path, threads: int) -> Limits:
    """Measure everything, in a few seconds; best of several tries, since others may use the machine too.

    `directory` is where a store would go: its disk is measured.
    """
    free, peaks = free_share(threads), measure_peaks(threads)
    return Limits(threads, free, peaks, measure_memory(threads), measure_disk(directory))


def free_share(threads: int) -> float:
    """Share of `threads` cores that this process gets when it wants them all: less than one beside other programs."""
    end = time.perf_counter() + FREE_S

    def work(_thread: int) -> None:
        while time.perf_counter() < end:
            _library.multiply_add("fp32", 100_000)

    begin, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads, "coldpress-bench") as pool:
        list(pool.map(work, range(threads)))
    return min((time.process_time() - cpu) / (time.perf_counter() - begin) / threads, 1.0)


def measure_peaks(threads: int) -> tuple[Peak, ...]:
    """Every arithmetic type, at the instruction set in force."""
    with ThreadPoolExecutor(threads, "coldpress-bench") as pool:
        return tuple(_peak(name, pool, threads) for name in INSTRUCTIONS)


def measure_memory(threads: int) -> tuple[Memory, ...]:
    """Every cache that the cores have to themselves or share, and the main memory; nothing without kernels."""
    if _library.isa() == "reference":
        return ()
    with ThreadPoolExecutor(threads, "coldpress-bench") as pool:
        return tuple(_memory(level, size, pool, threads) for level, size in _sizes(threads))


def _peak(arithmetic: str, pool: ThreadPoolExecutor, threads: int) -> Peak:
    def work(rounds: int) -> float:
        return _library.multiply_add(arithmetic, rounds)

    if work(1) == 0:
        return Peak(arithmetic, None, None)
    one, everybody = _rates(lambda _thread, rounds: work(rounds), pool, threads)
    return Peak(arithmetic, one, everybody)


def _memory(level: str, size: int, pool: ThreadPoolExecutor, threads: int) -> Memory:
    """`size` bytes a thread, half of them the target of the copy."""
    count = size // 8 // 128 * 128
    sources = [np.ones(count, np.float32) for _ in range(threads)]
    targets = [np.ones(count, np.float32) for _ in range(threads)]

    def read(thread: int, rounds: int) -> float:
        for array in (sources[thread], targets[thread]):
            _library.touch_memory(array, None, rounds)
        return float(8 * count * rounds)

    def copy(thread: int, rounds: int) -> float:
        _library.touch_memory(sources[thread], targets[thread], rounds)
        return float(8 * count * rounds)

    return Memory(level, 8 * count, *_rates(read, pool, threads), *_rates(copy, pool, threads))


def _rates(work: Callable[[int, int], float], pool: ThreadPoolExecutor, threads: int) -> tuple[float, float]:
    """Units per second of one thread and of all at once; ``work(thread, rounds)`` returns the units it has done."""
    rounds = 1
    while _timed(partial(work, 0, rounds))[1] < ROUND_S:
        rounds *= 2

    def everybody() -> float:
        return sum(pool.map(work, range(threads), [rounds] * threads))

    one, together = (
        max(done / seconds for done, seconds in (_timed(some) for _ in range(TRIES)))
        for some in (partial(work, 0, rounds), everybody)
    )
    return one, together if threads > 1 else one


def _timed(work: Callable[[], float]) -> tuple[float, float]:
    begin = time.perf_counter()
    done = work()
    return done, time.perf_counter() - begin


def _sizes(threads: int) -> list[tuple[str, int]]:
    """Bytes a thread that fit into the second cache, into its share of the third, and into neither."""
    second, third = cache_bytes(2) or 1 << 20, cache_bytes(3) or 0
    sizes = [("L2", second // 2)]
    if third // (2 * threads) > second:
        sizes.append(("L3", third // (2 * threads)))
    return [*sizes, ("DRAM", min(max(4 * max(third, second) // threads, 32 << 20), 256 << 20))]


def cache_bytes(level: int) -> int | None:
    """Size of a data cache as core 0 sees it; None where the system does not say."""
    for entry in sorted(_CACHES.glob("index*")):
        try:
            kind, own = (entry / "type").read_text().strip(), int((entry / "level").read_text())
            match = re.fullmatch(r"(\d+)([KM])", (entry / "size").read_text().strip())
        except (OSError, ValueError):
            continue
        if own == level and kind != "Instruction" and match:
            return int(match[1]) << (10 if match[2] == "K" else 20)
    return None


def measure_disk(directory: Path, size: int = DISK_BYTES) -> Disk:
    """Write a file of `size` bytes, flush it, read it back around the page cache, and remove it."""
    block = np.random.default_rng(0).bytes(BLOCK)  # nothing that a file system could compress
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".coldpress-bench-") as file:
        begin = time.perf_counter()
        for _ in range(0, size, BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        written = time.perf_counter() - begin
        cached = not hasattr(os, "posix_fadvise")
        if not cached:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        begin = time.perf_counter()
        while file.read(BLOCK):
            pass
        return Disk(str(directory), size / written, size / (time.perf_counter() - begin), cached)
