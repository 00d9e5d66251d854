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

_LARGEST_RUN = 1 << 22
"""Runs are merged up to so many entries (100 MB): what a merge takes of memory, and 12 runs for 50 million."""


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

    A log-structured merge tree: sorted runs in scratch files, neighbours of about the same size merged.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._recent: dict[str, int] = {}
        self._runs: list[tuple[Digests, npt.NDArray[np.int64]]] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(len(values) for _, values in self._runs)

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
        for keys, values in self._runs:
            places = _search(keys, wanted)
            for i in np.flatnonzero(places >= 0):
                value, other = int(values[places[i]]), found[i]
                found[i] = value if other is None else min(other, value)
        return found

    def _freeze(self) -> None:
        """Turn the recent entries into a run, and merge it with the last ones while they are no larger."""
        keys = parse_hashes(list(self._recent))
        values = np.fromiter(self._recent.values(), np.int64, len(self._recent))
        self._recent = {}
        while self._runs and len(self._runs[-1][1]) <= len(values) and 2 * len(values) <= _LARGEST_RUN:
            more_keys, more_values = self._runs.pop()
            keys, values = np.concatenate([more_keys, keys], axis=1), np.concatenate([more_values, values])
        order = np.lexsort((values, keys[1], keys[0]))
        self._runs.append((_map(keys[:, order], self._scratch), _map(values[order], self._scratch)))


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


def _search(keys: Digests, wanted: Digests) -> npt.NDArray[np.int64]:
    """Where each wanted digest first is in the sorted keys, -1 where it is not."""
    places = np.searchsorted(keys[0], wanted[0]).astype(np.int64)
    while True:
        inside = np.minimum(places, keys.shape[1] - 1)
        same = (places < keys.shape[1]) & (keys[0, inside] == wanted[0])
        # Two digests that share their first 64 bits stand side by side, told apart by the rest.
        behind = same & (keys[1, inside] < wanted[1])
        if not behind.any():
            return np.where(same & (keys[1, inside] == wanted[1]), places, -1)
        places += behind


def _map(array: npt.NDArray[Any], scratch: Path) -> npt.NDArray[Any]:
    """The same array in an unlinked file, mapped: memory that the system may take back."""
    with scratch_file(scratch) as file:
        array.tofile(file)
        return np.memmap(file, dtype=array.dtype, mode="r", shape=array.shape)
