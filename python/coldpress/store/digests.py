"""`DigestIndex`: which of millions of contents are there already, in bounded memory; `KeyLog`: keys by row number.

Both live in unlinked scratch files beside the store: nothing of them stays, whatever happens to the process. 50 million
rows take 1.2 GB of disk for the digests and next to nothing of memory that the system cannot take back.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from coldpress.store.files import explained, scratch_file

Digests = npt.NDArray[np.uint64]
"""(2, n): the two halves of 128-bit digests, each of them contiguous."""

_RECENT = 1 << 14
"""Entries that wait in a dict before they become a sorted run."""

_PIECE = 1 << 20
"""Entries that a merge has in memory at a time (25 MB, twice over), however long the runs are."""

Run = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.int64]]
"""Both halves of digests, ascending, and their values."""


def parse_hashes(hashes: Sequence[str]) -> Digests:
    """Digests of 32 hexadecimal digits as numbers."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=">u8").reshape(-1, 2).T.astype(np.uint64, order="C")


def hash_strings(strings: Iterable[str]) -> list[str]:
    r"""A digest of 32 hexadecimal digits for any string; a lone surrogate counts as the ``\udXXX`` it is stored as."""
    encoded = map(_encode, strings)
    return [hashlib.blake2b(string, digest_size=16).hexdigest() for string in encoded]


def as_stored(string: str) -> str:
    r"""A string as the store has it: a lone surrogate is written ``\udXXX``."""
    return _encode(string).decode()


class DigestIndex:
    """Maps digests (32 hexadecimal digits) to numbers; entries are added, looked up, and never removed.

    A log-structured merge tree: sorted runs in scratch files, merged with those before them that are no longer, so that
    there are as many as the number of entries has bits at most. With runs of up to 4 million, which a merge could hold
    in memory, a look-up among 10 million took 4.4 us instead of 1.7, and among 10^9 it would have taken 200.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._recent: dict[str, int] = {}
        self._runs: list[Run] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(len(values) for *_, values in self._runs)

    def add(self, digests: Sequence[str], values: Sequence[int]) -> None:
        """Add entries; of a digest that comes again, the smallest value counts."""
        for digest, value in zip(digests, values, strict=True):
            self._recent[digest] = min(value, self._recent.get(digest, value))
        if len(self._recent) >= _RECENT:
            with explained(self._scratch):
                self._freeze()

    def find(self, digests: Sequence[str]) -> list[int | None]:
        """The value of each digest; None for one that is not there."""
        found: list[int | None] = [self._recent.get(digest) for digest in digests]
        if not self._runs or not digests:
            return found
        wanted = parse_hashes(digests)
        order = np.argsort(wanted[0])  # neighbours find each other's way still in the cache: 0.4 us for 0.7
        wanted = wanted[:, order]
        for high, low, values in self._runs:
            places = _search(high, low, wanted)
            for i in np.flatnonzero(places >= 0):
                value, other = int(values[places[i]]), found[order[i]]
                found[order[i]] = value if other is None else min(other, value)
        return found

    def _freeze(self) -> None:
        """Turn the recent entries into a run, and merge it with the last ones while they are no larger."""
        keys = parse_hashes(list(self._recent))
        values = np.fromiter(self._recent.values(), np.int64, len(self._recent))
        order = _order(keys[0], keys[1], values)
        merging: list[Run] = [(keys[0, order], keys[1, order], values[order])]
        count = len(values)
        while len(merging) <= len(self._runs) and len(self._runs[-len(merging)][2]) <= count:
            merging.append(self._runs[-len(merging)])
            count += len(merging[-1][2])
        merged = _merge(merging, self._scratch)
        self._runs[len(self._runs) - len(merging) + 1 :] = [merged]
        self._recent = {}


class KeyLog:
    """Strings by number, appended in order."""

    def __init__(self, scratch: Path) -> None:
        self._scratch, self._size = scratch, 0
        with explained(scratch):
            # Unbuffered: what did not fit on a full disk is not tried again when the file is closed.
            self._text, self._ends = scratch_file(scratch), scratch_file(scratch)

    def extend(self, keys: Iterable[str]) -> None:
        """Append strings."""
        encoded = [_encode(key) for key in keys]
        ends = self._size + np.cumsum([len(key) for key in encoded], dtype=np.int64)
        with explained(self._scratch):
            _write(self._text, b"".join(encoded))
            _write(self._ends, ends.tobytes())
        self._size = int(ends[-1]) if len(ends) else self._size

    def __getitem__(self, number: int) -> str:
        first = max(number - 1, 0)
        ends = np.frombuffer(os.pread(self._ends.fileno(), 16, first * 8), np.int64)
        begin, end = (0, int(ends[0])) if number == 0 else (int(ends[0]), int(ends[1]))
        return os.pread(self._text.fileno(), end - begin, begin).decode()


def _encode(string: str) -> bytes:
    return string.encode("utf-8", "backslashreplace")


def _write(file: IO[bytes], content: bytes) -> None:
    while content:
        content = content[file.write(content) :]


def _search(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64], wanted: Digests) -> npt.NDArray[np.int64]:
    """Where each wanted digest first is in the sorted ones, -1 where it is not."""
    places = np.searchsorted(high, wanted[0]).astype(np.int64)
    while True:
        inside = np.minimum(places, len(high) - 1)
        same = (places < len(high)) & (high[inside] == wanted[0])
        # Two digests that share their first 64 bits stand side by side, told apart by the rest.
        behind = same & (low[inside] < wanted[1])
        if not behind.any():
            return np.where(same & (low[inside] == wanted[1]), places, -1)
        places += behind


def _order(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64], values: npt.NDArray[np.int64]) -> Any:
    """What sorts digests, equal ones by their value; runs one behind the other are merged in 0.02 us an entry."""
    order = np.argsort(high, kind="stable")
    ascending = high[order]
    if (ascending[1:] == ascending[:-1]).any():
        return np.lexsort((values, low, high))  # ten times as long
    return order


def _merge(runs: Sequence[Run], scratch: Path) -> Run:
    """One run of several, in unlinked files that are mapped: memory that the system may take back."""
    piece = max(1, _PIECE // len(runs))
    begins = [0] * len(runs)
    with scratch_file(scratch) as high, scratch_file(scratch) as low, scratch_file(scratch) as values:
        while left := [(run[0], begin) for run, begin in zip(runs, begins, strict=True) if begin < len(run[0])]:
            # As far as no run has more than a piece; all digests that share their first half come together.
            last = min(keys[min(begin + piece, len(keys)) - 1] for keys, begin in left)
            ends = [int(np.searchsorted(run[0], last, side="right")) for run in runs]
            spans = list(zip(runs, begins, ends, strict=True))
            parts = [np.concatenate([run[k][begin:end] for run, begin, end in spans]) for k in range(3)]
            order = _order(parts[0], parts[1], parts[2])
            for file, part in zip((high, low, values), parts, strict=True):
                part[order].tofile(file)
            begins = ends
        count = sum(begins)
        mapped = [np.memmap(file, dtype, "r", shape=(count,)) for file, dtype in ((high, "u8"), (low, "u8"))]
        return mapped[0], mapped[1], np.memmap(values, "i8", "r", shape=(count,))
