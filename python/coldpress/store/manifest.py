"""``manifest.json``: what a store holds, and the only thing that makes a shard part of it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from coldpress.errors import StoreError
from coldpress.store.encoding import DTYPES, OFFSETS, Part, parts
from coldpress.store.root import Root
from coldpress.types import Certificate, Fingerprint

MANIFEST_NAME = "manifest.json"
FORMAT_NAME = "coldpress-store"
FORMAT_VERSION = 1
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


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
class Manifest:
    """Everything in ``manifest.json``. `schema` is (name, type) of the metadata columns once a row has fixed them.

    In the first pass over the source, shard k covers its inputs ``[k * shard_rows, (k + 1) * shard_rows)``, whatever
    became of them; later passes append shards with what is new. `passes` counts those that came to their end;
    `complete` says whether the last one did. There are no times and no machine in it: the same inputs and fingerprint
    give the same bytes.
    """

    model: str
    source: str
    description: Mapping[str, Any]
    fingerprint: Fingerprint
    certificate: Certificate | None
    dtype: str
    shard_rows: int
    outputs: tuple[StoredOutput, ...]
    schema: tuple[tuple[str, str], ...] | None = None
    shards: tuple[Shard, ...] = ()
    passes: int = 0
    complete: bool = False

    @property
    def inputs(self) -> int:
        """Inputs covered by committed shards."""
        return sum(shard.inputs for shard in self.shards)

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, keys in a fixed order."""
        return {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "model": self.model,
            "source": self.source,
            "description": dict(self.description),
            "fingerprint": {"digest": self.fingerprint.digest, "fields": dict(self.fingerprint.fields)},
            "certificate": None if self.certificate is None else self.certificate.to_json(),
            "dtype": self.dtype,
            "shard_rows": self.shard_rows,
            "outputs": [output.to_json() for output in self.outputs],
            "metadata_schema": None if self.schema is None else [list(column) for column in self.schema],
            "passes": self.passes,
            "complete": self.complete,
            "shards": [shard.to_json() for shard in self.shards],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Manifest:
        """The reverse of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        schema, certificate = values["metadata_schema"], values["certificate"]
        manifest = cls(
            model=values["model"],
            source=values["source"],
            description=values["description"],
            fingerprint=Fingerprint(values["fingerprint"]["fields"]),
            certificate=None if certificate is None else Certificate(**certificate),
            dtype=values["dtype"],
            shard_rows=values["shard_rows"],
            outputs=tuple(StoredOutput(**output) for output in values["outputs"]),
            schema=None if schema is None else tuple((str(name), str(kind)) for name, kind in schema),
            shards=tuple(_shard(shard) for shard in values["shards"]),
            passes=int(values["passes"]),
            complete=values["complete"],
        )
        manifest._check(values["fingerprint"]["digest"])
        return manifest

    def _check(self, digest: str) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype '{self.dtype}', expected one of {', '.join(DTYPES)}")
        if self.fingerprint.digest != digest:
            raise ValueError("fingerprint and its digest differ")
        for output in self.outputs:
            if output.directory and not _SAFE_NAME.fullmatch(output.directory):
                raise ValueError(f"output directory {output.directory!r}, expected a plain name")
        for number, shard in enumerate(self.shards):
            # Only names of our own making are ever opened: a manifest cannot point out of its store.
            expected = {*shard_files(self, number)[:-1], outcomes_file(number, _generation(shard.outcomes))}
            if set(shard.files) != expected:
                raise ValueError(f"shard {number} lists {sorted(shard.files)}")
            counts = (shard.inputs, shard.rows, shard.failed, shard.duplicates)
            if any(not isinstance(n, int) or n < 0 for n in counts) or shard.inputs != shard.rows + shard.failed:
                raise ValueError(f"shard {number} counts {counts}, which does not add up")


def _shard(values: Mapping[str, Any]) -> Shard:
    files = {path: StoredFile(**entry) for path, entry in values["files"].items()}
    return Shard(**{**values, "files": files})


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
    return outcomes_file(number, _generation(name) + 1)


def _generation(name: str) -> int:
    match = re.fullmatch(r"outcomes/part-\d+(?:\.(\d+))?\.parquet", name)
    return int(match[1] or 0) if match else 0


def shard_files(manifest: Manifest, number: int) -> list[str]:
    """Every file of a new shard `number`, its outcomes last."""
    arrays = [matrix_file(o, part, number) for o in manifest.outputs for part in o.parts(manifest.dtype)]
    return [*arrays, metadata_file(number), outcomes_file(number)]


def write_manifest(root: Root, manifest: Manifest) -> None:
    """Replace the manifest atomically."""
    values = manifest.to_json()
    shards = ",\n".join(f"  {json.dumps(shard)}" for shard in values.pop("shards"))  # a line each, four times as fast
    head = json.dumps(values, indent=1).removesuffix("\n}")
    text = f'{head},\n "shards": [\n{shards}\n ]\n}}\n'
    root.replace(MANIFEST_NAME, text.encode())


def read_manifest(root: Root) -> Manifest:
    """Read and check ``manifest.json``, and that the files it lists are there in full length.

    Raises
    ------
    StoreError
        If it is missing, damaged or of a newer format version, or if a listed file is missing or cut off.
    """
    content = _manifest_content(root)
    while True:
        try:
            return _parse_manifest(root, content)
        except StoreError:
            # A writer that has moved failures removes old outcomes once the manifest lists the new ones.
            before, content = content, _manifest_content(root)
            if content == before:
                raise


def _manifest_content(root: Root) -> bytes:
    try:
        return root.read(MANIFEST_NAME)
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "has no manifest.json: not a store" if _is_directory(root) else "no such directory"
        raise StoreError(f"{root}: {what}; expected a directory written by 'coldpress embed'") from error
    except OSError as error:
        raise StoreError(f"{root}/{MANIFEST_NAME}: cannot be read: {error.strerror or error}") from error


def _parse_manifest(root: Root, content: bytes) -> Manifest:
    path = f"{root}/{MANIFEST_NAME}"
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged, not valid JSON ({error}); restore it, or embed again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT_NAME:
        raise StoreError(f'{path}: not the manifest of a store, expected "format": "{FORMAT_NAME}"')
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{path}: store format version {version}, this coldpress reads version {FORMAT_VERSION}; upgrade coldpress"
        )
    try:
        manifest = Manifest.from_json(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path}: damaged ({type(error).__name__}: {error}); restore it, or embed again") from error
    check_sizes(root, manifest)
    return manifest


def check_sizes(root: Root, manifest: Manifest) -> None:
    """Raise `StoreError` unless every listed file is there with its full length. One listing a directory."""
    sizes: dict[str, Mapping[str, int]] = {}
    for shard in manifest.shards:
        for path, stored in shard.files.items():
            directory, _, name = path.rpartition("/")
            if directory not in sizes:
                sizes[directory] = _listing(root, directory)
            size = sizes[directory].get(name)
            if size is None:
                raise StoreError(
                    f"{root}/{path}: cannot be read: No such file or directory; restore it, or embed again"
                )
            if size != stored.size:
                raise StoreError(
                    f"{root}/{path}: damaged: {size} bytes, expected {stored.size}; restore it, or embed again"
                )


def _listing(root: Root, directory: str) -> Mapping[str, int]:
    try:
        return root.listing(directory)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"{root}/{directory}: cannot be read: {error.strerror or error}") from error


def _is_directory(root: Root) -> bool:
    try:
        root.listing("")
    except OSError:
        return False
    return True
