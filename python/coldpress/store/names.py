"""What the files of a store are called: every name follows from the outputs, the dtype and a number."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coldpress.store.encoding import OFFSETS, Part, parts


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """Vectors of the store: their name, width, and sub-directory of ``embeddings/`` (empty for an only output).

    Of a `ragged` one each item has a matrix instead of a vector: several rows, those that its offsets tell.
    """

    name: str
    dim: int
    directory: str
    ragged: bool = False

    def parts(self, dtype: str) -> tuple[Part, ...]:
        """The arrays it is stored in, those of its rows first."""
        return (*parts(dtype, self.dim), OFFSETS) if self.ragged else parts(dtype, self.dim)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values: dict[str, Any] = {"name": self.name, "dim": self.dim, "directory": self.directory}
        return values | {"ragged": True} if self.ragged else values


def plan_outputs(dims: Mapping[str, int], ragged: Collection[str] = ()) -> tuple[StoredOutput, ...]:
    """Give every output a directory: none for a single one of vectors, else its name made safe for any file system."""
    if len(dims) == 1 and not ragged:
        return tuple(StoredOutput(name, dim, "") for name, dim in dims.items())
    outputs: list[StoredOutput] = []
    taken: set[str] = set()
    for name, dim in dims.items():
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-") or "output"
        directory, suffix = safe, 2
        while directory.lower() in taken:
            directory, suffix = f"{safe}-{suffix}", suffix + 1
        taken.add(directory.lower())
        outputs.append(StoredOutput(name, dim, directory, name in ragged))
    return tuple(outputs)


def matrix_file(output: StoredOutput, part: Part, number: int) -> str:
    """Relative path of one array of the vectors of shard `number`."""
    return "/".join(filter(None, [part.folder, output.directory, f"part-{number:05d}.npy"]))


def metadata_file(number: int) -> str:
    """Relative path of the metadata of shard `number`."""
    return f"metadata/part-{number:05d}.parquet"


def outcomes_file(number: int, generation: int = 0) -> str:
    """Relative path of the outcomes of shard `number`, written anew `generation` times."""
    return f"outcomes/part-{number:05d}{f'.{generation}' if generation else ''}.parquet"


def next_outcomes_file(name: str, number: int) -> str:
    """The name that follows `name`, which stays valid until the manifest lists the new one."""
    return outcomes_file(number, generation_of(name) + 1)


def generation_of(name: str) -> int:
    """How often the outcomes of that name have been written anew."""
    match = re.fullmatch(r"outcomes/part-\d+(?:\.(\d+))?\.parquet", name)
    return int(match[1] or 0) if match else 0


def shard_files(outputs: Sequence[StoredOutput], dtype: str, number: int, generation: int = 0) -> list[str]:
    """Every file of shard `number`, its outcomes last."""
    arrays = [matrix_file(output, part, number) for output in outputs for part in output.parts(dtype)]
    return [*arrays, metadata_file(number), outcomes_file(number, generation)]


@dataclass(frozen=True)
class PartNames(Sequence[str]):
    """`matrix_file` of every shard, made when it is asked for: there may be millions."""

    output: StoredOutput
    part: Part
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(self.length))]
        return matrix_file(self.output, self.part, range(self.length)[number])
