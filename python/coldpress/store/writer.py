"""`StoreWriter`: vectors, metadata and outcomes to disk, shard by shard, resumable at any moment."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from coldpress.errors import FingerprintMismatch, StoreError
from coldpress.store.encoding import DTYPES
from coldpress.store.files import LOCK_NAME, SCRATCH_PREFIX, explained, sync_file, temporary
from coldpress.store.manifest import ALL_CHECKED, MANIFEST_NAME, Manifest, read_manifest, shard_files, write_manifest
from coldpress.store.names import plan_outputs
from coldpress.store.projection import PROJECTION_NAME, Projection, write_projection
from coldpress.store.root import Root, open_root
from coldpress.store.schema import check_metadata
from coldpress.store.segments import DIRECTORY, sealed
from coldpress.store.shard import ShardWriter, without_failures
from coldpress.store.shards import Shards, Totals
from coldpress.store.tables import read_strings
from coldpress.types import Certificate, Fingerprint, Results

_OURS = re.compile(r"\.?(part-\d+\.|\d+-\d+-[0-9a-f]{16}\.).*")


class StoreWriter:
    """Create a store, or go on with one that an earlier run has left.

    In the first pass over a source, shard k covers its inputs ``[k * shard_rows, (k + 1) * shard_rows)``: a run that
    is killed and started again skips `committed_inputs` inputs, continues, and ends with the same bytes as one that
    was not. Once that pass is finished, further shards hold what the source has gained since, and the inputs that
    failed at first (`retry`). One process writes at a time.

    Parameters
    ----------
    path
        Directory of the store, or a fsspec URL of one; created if missing. An existing directory must be empty or a
        store. Behind a URL, shards are uploaded when they are complete, and the manifest after them.
    fingerprint
        Of the vectors to come.
    dims
        Width of each output, by name, in the order in which a reader lists them.
    dtype
        How vectors are stored: ``"float16"``, ``"float32"``, ``"int8"`` or ``"binary"``, see `store.encoding`.
    shard_rows
        Inputs per shard.
    model, source
        Names for people. A store is continued only from the source it was begun with.
    description
        Anything else worth keeping, as JSON values; that of the run that created the store stays.
    projection
        What the vectors were mapped by, if they were: the fingerprint has its hash, the store keeps it.
    ragged
        Outputs of which each item has a matrix, `Ragged`, instead of a vector.

    Raises
    ------
    FingerprintMismatch
        If the store holds vectors of another space; the message lists every field that differs.
    StoreError
        If the store has other outputs, dtype, shard size or source, is damaged, is being written to by
        another process, or if `path` is something else than a store.

    Examples
    --------
    >>> with StoreWriter("out", fingerprint=f, dims={"pooled": 384}, dtype="float16", shard_rows=65536,
    ...                  model="MiniLM", source="a.txt", description={}) as writer:      # doctest: +SKIP
    ...     for results in compute(source.items(start=writer.committed_inputs)):
    ...         writer.write(results)
    ...     writer.finish()
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fingerprint: Fingerprint,
        dims: Mapping[str, int],
        dtype: str,
        shard_rows: int,
        model: str,
        source: str,
        description: Mapping[str, Any],
        projection: Projection | None = None,
        ragged: Collection[str] = (),
    ) -> None:
        _check_arguments(dims, dtype, shard_rows)
        self._root = open_root(path)
        outputs = plan_outputs(dims, ragged)
        asked = Manifest(
            model, source, description, fingerprint, None, dtype, shard_rows, outputs, Shards(outputs, dtype)
        )
        self._shard: ShardWriter | None = None
        self._failed_in: dict[str, list[int]] = {}
        self._warned: set[str] = set()
        self._closed = False
        with explained(self.path):
            _refuse_foreign(self._root)
            self._root.create()
            self._lock = self._root.lock()
            try:
                self._manifest = self._begin(asked, projection)
            except BaseException:
                self._lock.release()
                raise

    @property
    def path(self) -> Path | str:
        """The directory as a path, or the URL."""
        return self._root.location

    @property
    def root(self) -> Root:
        """The files of the store."""
        return self._root

    @property
    def committed_inputs(self) -> int:
        """How many inputs of the source, from its front, are in the store for good."""
        return self._manifest.inputs

    @property
    def shard_rows(self) -> int:
        """Inputs per shard."""
        return self._manifest.shard_rows

    @property
    def dtype(self) -> str:
        """How vectors are stored."""
        return self._manifest.dtype

    @property
    def totals(self) -> Totals:
        """What the committed shards hold together."""
        return self._manifest.shards.totals

    @property
    def manifest(self) -> Manifest:
        """What is committed."""
        return self._manifest

    @property
    def passes(self) -> int:
        """How often a run has come to the end of the source."""
        return self._manifest.passes

    def retry(self) -> Set[str]:
        """Take back the inputs that have failed so far: those written from now on leave the shard they failed in.

        Returns
        -------
        Their keys. Write results only for those that have succeeded now; the others stay where they are.
        """
        for number, shard in enumerate(self._manifest.shards):
            if shard.failed:
                for key in _failed_keys(self._root, shard.outcomes):  # once for each input, should a key be repeated
                    self._failed_in.setdefault(key, []).append(number)
        return self._failed_in.keys()

    @property
    def certificate(self) -> Certificate | None:
        """The fidelity certificate. It can be set until the first shard with a row is committed."""
        return self._manifest.certificate

    @certificate.setter
    def certificate(self, certificate: Certificate) -> None:
        if self._manifest.rows:
            raise StoreError(f"{self.path}: the certificate is set before the first row is committed")
        self._manifest = replace(self._manifest, certificate=certificate)

    def write(self, results: Results) -> None:
        """Add the results of the next inputs, and commit the shard when it is full.

        A chunk never reaches over the end of a shard. If anything fails, the writer closes; committed shards stay.

        Raises
        ------
        StoreError
            If the disk is full or not writable, a value is too large for the dtype, or metadata has a reserved name.
        """
        if self._closed:
            raise ValueError("the writer is closed")
        if not results.items:
            return
        self._check_results(results)
        try:
            check_metadata(results.items)
            with explained(self.path):
                if self._shard is None:
                    self._shard = ShardWriter(self._root, self._manifest)
                self._shard.append(results)
                if self._shard.inputs == self._manifest.shard_rows:
                    self._commit(self._shard)
        except BaseException:
            self.close()
            raise

    def end_shard(self) -> None:
        """Commit the shard under way though it may not be full, if there is one. If that fails, the writer closes."""
        if self._shard is None:
            return
        try:
            with explained(self.path):
                self._commit(self._shard)
        except BaseException:
            self.close()
            raise

    def finish(self) -> None:
        """Commit what is left and mark the store complete; without this call the last partial shard is dropped."""
        if self._closed:
            raise ValueError("the writer is closed")
        if self._manifest.complete and self._shard is None:
            return
        try:
            with explained(self.path):
                self._commit(self._shard, complete=True)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop the shard that is not full, and let others write. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        if self._shard is not None:
            self._shard.discard()
            self._shard = None
        self._lock.release()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, asked: Manifest, projection: Projection | None) -> Manifest:
        root = self._root
        root.recover(MANIFEST_NAME)
        manifest = read_manifest(root) if root.holds(MANIFEST_NAME) else None
        if manifest is not None and manifest.shards:
            _check_same(self.path, manifest, asked)
        else:  # nothing is in it that other settings could spoil: a run was refused or ended before its first shard
            manifest = asked
            if projection is not None:
                write_projection(root, projection)
            write_manifest(root, manifest)
        directories = {Path(name).parent for name in shard_files(manifest, 0)}
        for directory in sorted(root.directory / name for name in directories):
            directory.mkdir(parents=True, exist_ok=True)
            sync_file(directory.parent)
        self._remove_leftovers(manifest)
        return manifest

    def _commit(self, shard: ShardWriter | None, *, complete: bool = False) -> None:
        manifest = self._manifest
        moved = self._moved(shard.keys) if shard is not None and self._failed_in else {}
        if shard is not None:
            shards = manifest.shards
            for number, keys in moved.items():
                shards = shards.replaced(number, without_failures(self._root, shards[number], number, keys))
            committed, schema = shard.commit(manifest.schema, self._warned)
            manifest = replace(manifest, shards=sealed(self._root, shards.append(committed)), schema=schema)
        manifest = replace(manifest, complete=complete, passes=manifest.passes + complete)
        self._lock.confirm()
        write_manifest(self._root, manifest)
        before, self._manifest, self._shard = self._manifest, manifest, None
        for number, keys in moved.items():
            for key, count in keys.items():
                del self._failed_in[key][:count]
                if not self._failed_in[key]:
                    del self._failed_in[key]
            self._root.remove(before.shards[number].outcomes)
        kept = {segment.name for segment in manifest.shards.segments}
        for segment in before.shards.segments:
            if segment.name not in kept:
                self._root.remove(segment.name)

    def _moved(self, keys: Sequence[str]) -> dict[int, Counter[str]]:
        """How many failures of which key leave which shard, now that there are rows for these keys."""
        moved: dict[int, Counter[str]] = {}
        taken: Counter[str] = Counter()
        for key in keys:
            homes = self._failed_in.get(key, [])
            if taken[key] < len(homes):
                moved.setdefault(homes[taken[key]], Counter())[key] += 1
                taken[key] += 1
        return moved

    def _remove_leftovers(self, manifest: Manifest) -> None:
        """Delete what a killed run has left: temporary files, and files renamed but never listed in the manifest."""
        segments = {segment.name for segment in manifest.shards.segments}
        self._remove_others(DIRECTORY, lambda name: name in segments)
        if (
            len(manifest.shards) > ALL_CHECKED
        ):  # to list millions of files takes minutes; only the next shard can be there
            for name in shard_files(manifest, len(manifest.shards)):
                self._root.remove(name)
                self._root.remove(temporary(Path(name)).as_posix())
        else:
            listed = {name for shard in manifest.shards for name in shard.files}
            for directory in {Path(name).parent.as_posix() for name in shard_files(manifest, 0)}:
                self._remove_others(directory, lambda name: name in listed)
        for scratch in self._root.directory.glob(f"{SCRATCH_PREFIX}*"):
            scratch.unlink()

    def _remove_others(self, directory: str, is_listed: Callable[[str], bool]) -> None:
        with suppress(FileNotFoundError):  # behind a URL there may be no directory before there is a file in it
            for entry in self._root.listing(directory):
                if _OURS.fullmatch(entry) and not is_listed(f"{directory}/{entry}"):
                    self._root.remove(f"{directory}/{entry}")

    def _check_results(self, results: Results) -> None:
        """The engine's side of the contract, checked because a row out of step would damage the store silently."""
        n = len(results.items)
        rows = sum(copied is None for copied in results.copies)
        room = self._manifest.shard_rows - (self._shard.inputs if self._shard else 0)
        expected = {output.name: (rows, output.dim) for output in self._manifest.outputs}
        shapes = {name: matrix.shape for name, matrix in results.vectors.items()}
        if n > room:
            raise ValueError(f"{n} results, expected at most the {room} that complete the shard")
        if len(results.inputs) != n or [o.key for o in results.outcomes] != [item.key for item in results.items]:
            raise ValueError("inputs and outcomes do not belong to the items")
        if len(results.copies) != sum(outcome.status != "failed" for outcome in results.outcomes):
            raise ValueError("copies do not belong to the outcomes")
        if shapes != expected:
            raise ValueError(f"vectors have shapes {shapes}, expected {expected}")


def _check_arguments(dims: Mapping[str, int], dtype: str, shard_rows: int) -> None:
    if dtype not in DTYPES:
        raise StoreError(f"dtype '{dtype}', expected one of {', '.join(DTYPES)}")
    if shard_rows < 1:
        raise StoreError(f"shard_rows is {shard_rows}, expected at least 1")
    if not dims or min(dims.values()) < 1:
        raise StoreError(f"outputs are {dict(dims)}, expected at least one, each with a width of at least 1")


def check_place(path: str | Path) -> None:
    """Raise `StoreError` if no store can be in this directory, before minutes are spent on what would go into it."""
    root = open_root(path)
    if not isinstance(root.location, Path):
        return  # what a URL allows is known once something is written
    with explained(path):
        _refuse_foreign(root)
        existing = next(place for place in (root.location, *root.location.absolute().parents) if place.exists())
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(f"{existing} is not writable")


def _refuse_foreign(root: Root) -> None:
    try:
        entries = root.listing("")
    except NotADirectoryError as error:
        raise StoreError(f"{root}: is a file, expected a directory for the store; choose another output") from error
    except FileNotFoundError:
        entries = {}
    if not root.holds(MANIFEST_NAME):
        names = [MANIFEST_NAME, PROJECTION_NAME]  # of a run killed in its first moment
        ours = {LOCK_NAME, PROJECTION_NAME, *(temporary(Path(name)).name for name in names)}
        if foreign := sorted(entries.keys() - ours):
            raise StoreError(
                f"{root}: is not empty and not a store (it has '{foreign[0]}' and no {MANIFEST_NAME}); "
                "choose another output"
            )


def _check_same(path: Path | str, found: Manifest, asked: Manifest) -> None:
    if found.fingerprint.digest != asked.fingerprint.digest:
        differences = "; ".join(found.fingerprint.diff(asked.fingerprint))
        raise FingerprintMismatch(
            f"{path}: the store holds vectors of another space (store != this run): {differences}; "
            "use the same model and options, or another output"
        )
    for what in ("source", "dtype", "shard_rows", "outputs"):
        stored, wanted = getattr(found, what), getattr(asked, what)
        if stored != wanted:
            if what == "outputs":
                stored, wanted = ({o.name: o.dim for o in outputs} for outputs in (stored, wanted))
            raise StoreError(
                f"{path}: the store was begun with {what} {stored!r}, this run has {wanted!r}; "
                "use the same, or another output"
            )


def _failed_keys(root: Root, name: str) -> list[str]:
    keys, statuses = read_strings(root, name, "key", "status")
    return [key for key, status in zip(keys, statuses, strict=True) if status == "failed"]
