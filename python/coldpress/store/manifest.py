"""``manifest.json``: what a store holds, and the only thing that makes a shard part of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from coldpress.errors import StoreError
from coldpress.store import segments
from coldpress.store.encoding import DTYPES
from coldpress.store.names import StoredOutput, generation_of, outcomes_file
from coldpress.store.names import shard_files as files_of
from coldpress.store.root import Root
from coldpress.store.shards import Segment, Shard, Shards, StoredFile, Totals
from coldpress.types import Certificate, Fingerprint

MANIFEST_NAME = "manifest.json"
FORMAT_NAME = "coldpress-store"
FORMAT_VERSIONS = (1, 2)
"""2 where some of the shards are listed in segments; smaller stores are of version 1, byte for byte."""

ALL_CHECKED = 1 << 14
"""Up to so many shards, opening a store looks at every file; of more only at the last ones."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SHA256 = re.compile("[0-9a-f]{64}")


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
    shards: Shards
    schema: tuple[tuple[str, str], ...] | None = None
    passes: int = 0
    complete: bool = False

    @property
    def inputs(self) -> int:
        """Inputs covered by committed shards."""
        return self.shards.totals.inputs

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return self.shards.totals.rows

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, keys in a fixed order."""
        sealed = self.shards.segments
        return {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSIONS[bool(sealed)],
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
            **({"segments": [asdict(segment) for segment in sealed]} if sealed else {}),
            "shards": [shard.to_json() for shard in self.shards.tail],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], reader: segments.SegmentReader) -> Manifest:
        """The reverse of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        schema, certificate = values["metadata_schema"], values["certificate"]
        outputs = tuple(StoredOutput(**output) for output in values["outputs"])
        manifest = cls(
            model=values["model"],
            source=values["source"],
            description=values["description"],
            fingerprint=Fingerprint(values["fingerprint"]["fields"]),
            certificate=None if certificate is None else Certificate(**certificate),
            dtype=values["dtype"],
            shard_rows=values["shard_rows"],
            outputs=outputs,
            schema=None if schema is None else tuple((str(name), str(kind)) for name, kind in schema),
            shards=_shards(outputs, values, reader),
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
        for number, shard in enumerate(self.shards.tail, len(self.shards.sealed)):
            # Only names of our own making are ever opened: a manifest cannot point out of its store.
            expected = {*shard_files(self, number)[:-1], outcomes_file(number, generation_of(shard.outcomes))}
            if set(shard.files) != expected:
                raise ValueError(f"shard {number} lists {sorted(shard.files)}")
            counts = (shard.inputs, shard.rows, shard.failed, shard.duplicates)
            if any(not isinstance(n, int) or n < 0 for n in counts) or shard.inputs != shard.rows + shard.failed:
                raise ValueError(f"shard {number} counts {counts}, which does not add up")


def _shards(outputs: tuple[StoredOutput, ...], values: Mapping[str, Any], reader: segments.SegmentReader) -> Shards:
    shards = Shards(outputs, values["dtype"], listed=reader)
    for entry in values.get("segments", ()):
        segment = Segment(**{**entry, "totals": Totals(**entry["totals"]), "file": StoredFile(**entry["file"])})
        if not _SHA256.fullmatch(segment.file.sha256) or segment.first != len(shards):
            raise ValueError(f"segment {segment.name} does not follow")
        sealed = np.concatenate([shards.sealed, reader.counts(segment)])
        totals = shards.totals.plus(segment.totals)
        shards = replace(shards, segments=(*shards.segments, segment), sealed=sealed, totals=totals)
    tail = tuple(_shard(shard) for shard in values["shards"])
    for shard in tail:
        shards = replace(shards, totals=shards.totals.plus(Totals.of(shard)))
    return replace(shards, tail=tail)


def _shard(values: Mapping[str, Any]) -> Shard:
    files = {path: StoredFile(**entry) for path, entry in values["files"].items()}
    return Shard(**{**values, "files": files})


def shard_files(manifest: Manifest, number: int) -> list[str]:
    """Every file of a new shard `number`, its outcomes last."""
    return files_of(manifest.outputs, manifest.dtype, number)


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
    if version not in FORMAT_VERSIONS:
        raise StoreError(
            f"{path}: store format version {version}, this coldpress reads version 1 and 2; upgrade coldpress"
        )
    try:
        manifest = Manifest.from_json(values, segments.SegmentReader(root))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path}: damaged ({type(error).__name__}: {error}); restore it, or embed again") from error
    check_sizes(root, manifest)
    return manifest


def check_sizes(root: Root, manifest: Manifest) -> None:
    """Raise `StoreError` unless the listed files are there with their full length. One listing a directory.

    Of very many shards only those are looked at that are in no segment: the others were there when it was written, and
    a million of them would take longer to list than to open.
    """
    shards = manifest.shards
    looked_at = shards if len(shards) <= ALL_CHECKED else shards.tail
    files = [(segment.name, segment.file) for segment in shards.segments]
    sizes: dict[str, Mapping[str, int]] = {}
    for shard in looked_at:
        files += shard.files.items()
    for path, stored in files:
        directory, _, name = path.rpartition("/")
        if directory not in sizes:
            sizes[directory] = _listing(root, directory)
        size = sizes[directory].get(name)
        if size is None:
            raise StoreError(f"{root}/{path}: cannot be read: No such file or directory; restore it, or embed again")
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
