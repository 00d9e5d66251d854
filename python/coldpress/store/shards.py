"""`Shards`: the committed shards of a store, a few or millions.

The last ones are listed in the manifest itself. Whole blocks of those before lie in *segments*, parquet files that
never change, so that opening a store and committing a shard take the same time however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt

from coldpress.store.names import StoredOutput, generation_of, shard_files

Counts = npt.NDArray[np.int64]
"""(n, 5): inputs, rows, failed, duplicates and generation of the outcomes of n shards."""

Digests = npt.NDArray[Any]
"""(n, F) of 32 bytes: the SHA-256 of F files of n shards."""

_ROWS, _GENERATION = 1, 4


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Size in bytes and SHA-256 of one committed file."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Shard:
    """One committed shard: how many inputs it covers, what became of them, and its files by relative path.

    A retried input leaves the shard where it failed for the one where it has a row; the first is left with new
    outcomes, its rows untouched.
    """

    inputs: int
    rows: int
    failed: int
    duplicates: int
    files: Mapping[str, StoredFile]

    @property
    def outcomes(self) -> str:
        """Relative path of its outcomes: the only file that can be of a later generation."""
        return next(name for name in self.files if name.startswith("outcomes/"))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `asdict` takes five times as long, and there may be thousands of shards."""
        files = {name: {"size": file.size, "sha256": file.sha256} for name, file in self.files.items()}
        counts = {"inputs": self.inputs, "rows": self.rows, "failed": self.failed, "duplicates": self.duplicates}
        return {**counts, "files": files}


@dataclass(frozen=True, slots=True)
class Totals:
    """Inputs of some shards, what became of them, and the bytes of all files."""

    inputs: int = 0
    rows: int = 0
    failed: int = 0
    duplicates: int = 0
    nbytes: int = 0

    @classmethod
    def of(cls, shard: Shard) -> Totals:
        """Those of one shard."""
        size = sum(file.size for file in shard.files.values())
        return cls(shard.inputs, shard.rows, shard.failed, shard.duplicates, size)

    def plus(self, other: Totals, sign: int = 1) -> Totals:
        """The sum; with -1 the difference."""
        return Totals(
            self.inputs + sign * other.inputs,
            self.rows + sign * other.rows,
            self.failed + sign * other.failed,
            self.duplicates + sign * other.duplicates,
            self.nbytes + sign * other.nbytes,
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """A file that lists `count` shards from number `first` on, and what these hold together."""

    first: int
    count: int
    totals: Totals
    file: StoredFile

    @property
    def name(self) -> str:
        """Relative path; with its hash in it, so that another content never takes the place of a committed one."""
        return f"shards/{self.first:08d}-{self.first + self.count:08d}-{self.file.sha256[:16]}.parquet"


class Listed(Protocol):
    """What reads segments."""

    def counts(self, segment: Segment) -> Counts:
        """Counts of its shards."""

    def files(self, segment: Segment) -> tuple[npt.NDArray[np.int64], Digests]:
        """Sizes (n, F) and SHA-256 (n, F) of the files of its shards, in the order of `shard_files`."""


@dataclass(frozen=True)
class Shards(Sequence[Shard]):
    """All committed shards by number. Immutable; what changes it returns another one.

    `sealed` has the counts of those in `segments`, `tail` those behind, `changed` those among the sealed ones that are
    not what their segment says, until that is written anew.
    """

    outputs: tuple[StoredOutput, ...]
    dtype: str
    tail: tuple[Shard, ...] = ()
    totals: Totals = Totals()
    segments: tuple[Segment, ...] = ()
    sealed: Counts = field(default_factory=lambda: np.empty((0, 5), np.int64))
    listed: Listed | None = None
    changed: Mapping[int, Shard] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sealed) + len(self.tail)

    @overload
    def __getitem__(self, number: int) -> Shard: ...

    @overload
    def __getitem__(self, number: slice) -> list[Shard]: ...

    def __getitem__(self, number: int | slice) -> Shard | list[Shard]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        if number >= len(self.sealed):
            return self.tail[number - len(self.sealed)]
        if number in self.changed:
            return self.changed[number]
        starts = [segment.first for segment in self.segments]
        return self._of(self.segments[int(np.searchsorted(starts, number, side="right")) - 1], number)

    def __iter__(self) -> Iterator[Shard]:
        for segment in self.segments:
            for number in range(segment.first, segment.first + segment.count):
                yield self.changed[number] if number in self.changed else self._of(segment, number)
        yield from self.tail

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """(n,): rows of each."""
        return np.concatenate([self.sealed[:, _ROWS], np.array([shard.rows for shard in self.tail], np.int64)])

    def sizes(self, name: str) -> npt.NDArray[np.int64]:
        """(n,): bytes of one file of each; `name` is that of the first shard."""
        place = shard_files(self.outputs, self.dtype, 0).index(name)
        sealed = [self.listed.files(segment)[0][:, place] for segment in self.segments if self.listed is not None]
        tail = [
            shard.files[shard_files(self.outputs, self.dtype, number)[place]].size
            for number, shard in enumerate(self.tail, len(self.sealed))
        ]
        return np.concatenate([*sealed, np.array(tail, np.int64)])

    def append(self, shard: Shard) -> Shards:
        """With one more."""
        return replace(self, tail=(*self.tail, shard), totals=self.totals.plus(Totals.of(shard)))

    def replaced(self, number: int, shard: Shard) -> Shards:
        """With another one in the place of shard `number`; its rows are the same."""
        totals = self.totals.plus(Totals.of(self[number]), -1).plus(Totals.of(shard))
        if number < len(self.sealed):
            return replace(self, changed={**self.changed, number: shard}, totals=totals)
        tail = list(self.tail)
        tail[number - len(self.sealed)] = shard
        return replace(self, tail=tuple(tail), totals=totals)

    def _of(self, segment: Segment, number: int) -> Shard:
        assert self.listed is not None
        counts, (sizes, digests) = self.sealed[number], self.listed.files(segment)
        place = number - segment.first
        names = shard_files(self.outputs, self.dtype, number, int(counts[_GENERATION]))
        files = {
            name: StoredFile(int(size), bytes(digest).hex())
            for name, size, digest in zip(names, sizes[place], digests[place], strict=True)
        }
        inputs, rows, failed, duplicates = (int(count) for count in counts[:_GENERATION])
        return Shard(inputs, rows, failed, duplicates, files)


def counts_of(shard: Shard) -> tuple[int, ...]:
    """One row of `Counts`."""
    return shard.inputs, shard.rows, shard.failed, shard.duplicates, generation_of(shard.outcomes)
