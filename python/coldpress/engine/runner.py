"""Three stages with bounded queues between them: read and preprocess, compute, write.

Nothing holds the data set in memory. A chunk of items is the unit that travels; a shard of the store covers a fixed
range of inputs, so what it holds follows from its inputs, the shards before it and the fingerprint alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

from coldpress.data import Source
from coldpress.engine.assemble import Assembler, cut_results
from coldpress.engine.certificate import certify, require, thinned, with_storage
from coldpress.engine.compute import Computer
from coldpress.engine.delivery import Delivery
from coldpress.engine.heap import Trimmer
from coldpress.engine.known import KnownRows, ReusedRows
from coldpress.engine.options import RunOptions
from coldpress.engine.plan import chunk_items, chunk_size, group_size, sample_size
from coldpress.engine.precision import Choice
from coldpress.engine.sample import Prepared, prepare_items, take_sample
from coldpress.engine.stages import Background, Timed, grouped, ordered_map
from coldpress.engine.summary import NOTHING_LEFT, Progress, Summary, bottleneck
from coldpress.engine.todo import Todo
from coldpress.engine.vectors import first_pooled
from coldpress.errors import ItemError
from coldpress.preprocess import Preprocessor
from coldpress.store import StoreWriter
from coldpress.store.digests import as_stored
from coldpress.types import Item, KnownInput, Results

_Chunk = tuple[list[Item], list[Prepared] | Delivery]


@dataclass(slots=True)
class _Counts:
    failed: int = 0
    duplicates: int = 0
    retried: int = 0
    inputs: int = 0
    truncated: int = 0
    tokens: int = 0

    def add(self, results: Results, again: Set[str]) -> None:
        """Count a chunk."""
        for outcome, prepared in zip(results.outcomes, results.inputs, strict=True):
            self.inputs += 1
            self.failed += outcome.status == "failed"
            self.duplicates += outcome.status == "duplicate"
            self.retried += bool(again) and as_stored(outcome.key) in again
            self.truncated += getattr(prepared, "truncated", False)
            self.tokens += len(getattr(prepared, "ids", ()))


class Run:
    """One run into one store: embeds what that does not hold yet, and marks it complete.

    Raises
    ------
    CertificateError
        Before anything is stored, if the vectors are too far from the reference.
    FingerprintMismatch, StoreError
        If the store to reuse has vectors of another space, or of another kind.
    ItemError
        With ``on_error="fail"``, at the first item that fails; committed shards stay.
    SourceError, StoreError
        If reading or writing fails as a whole; committed shards stay.
    """

    def __init__(
        self,
        source: Source,
        preprocess: Preprocessor,
        compute: Computer,
        writer: StoreWriter,
        precision: Choice,
        options: RunOptions,
    ) -> None:
        self.begun = time.perf_counter() - options.settling_s
        self.source, self.preprocess, self.compute = source, preprocess, compute
        self.writer, self.precision, self.options = writer, precision, options
        manifest = writer.manifest
        dims = {output.name: output.dim for output in manifest.outputs}
        self.reuse = (
            ReusedRows(options.reuse, manifest.fingerprint, dims, manifest.dtype, writer.root.directory)
            if options.reuse is not None
            else None
        )
        self.again = writer.retry() if options.retry_failed else frozenset()
        self.todo = Todo(source, writer.root, manifest, preprocess.modality, self.again)
        self.assembler = Assembler(compute, KnownRows(writer.root, manifest), self.reuse)
        self.counts, self.interrupted = _Counts(), False
        self.drawn = 0
        self.written = writer.committed_inputs if self.todo.first_pass else 0
        self.seconds: dict[str, float] = {"certify": options.settling_s, "compute": 0.0, "wait_input": 0.0}
        self.crew_seconds: Counter[str] = Counter()
        self.background = Background(self._write)
        self.trim = Trimmer()

    @property
    def chunk_size(self) -> int:
        """Items that it wants at a time."""
        return chunk_size(self.preprocess.modality, self.compute.outputs)

    def __call__(self) -> Summary:
        """Do all of it."""
        before = dict(self.preprocess.seconds)
        chunks = Timed(chunk_items(self.todo, self.chunk_size, self.written, self.writer.shard_rows))
        prepared = Timed(ordered_map(self._prepare, chunks, self.threads))
        with closing(prepared), self.background:
            for items, inputs in self._grouped(prepared):
                self.interrupted = self.step(items, inputs)
                if self.interrupted:
                    break
            self.finish()
        preparing = {name: seconds - before[name] for name, seconds in self.preprocess.seconds.items()}
        self.seconds["wait_input"] = prepared.seconds
        if self.options.crew is not None:
            preparing = {name: preparing[name] + self.crew_seconds[name] for name in preparing}
            self.seconds |= {"compute": self.crew_seconds["compute"], "wait_input": 0.0}
        return self.summary(chunks.seconds, preparing)

    def _grouped(self, prepared: Iterable[_Chunk]) -> Iterable[_Chunk]:
        """Chunks as the device wants them; those that a crew has computed stay as they are."""
        size = group_size(self.preprocess.modality, self.compute.device.type)
        if size == 1 or self.options.crew is not None:
            return prepared
        whole = cast(Iterable[tuple[list[Item], list[Prepared]]], prepared)
        return grouped(whole, size, self.writer.shard_rows)

    def step(self, items: Sequence[Item], inputs: Sequence[Prepared] | Delivery) -> bool:
        """Compute a chunk, unless that was delivered, and queue it for the store; True if the run is to end there."""
        if self.uncertified:
            self.background.drain()  # a commit under way would write the manifest without the certificate
            self._certify(items, self._prepare_here(items) if isinstance(inputs, Delivery) else inputs)
        results = self._compute(items, inputs)
        if self.unmeasured:
            self.background.drain()
            self._measure_storage(results)
        ends = self._put(results)
        self.drawn += len(items)
        self._report()
        self.trim()
        return ends

    def finish(self) -> None:
        """Wait for the writer, and mark the store complete unless the run was interrupted."""
        self.background.drain()
        if not self.interrupted:
            self.writer.finish()

    def summary(self, source_s: float, preparing: Mapping[str, float]) -> Summary:
        """What the run did; `source_s` and `preparing` are the busy seconds of what came before it."""
        ends = {"write": self.background.busy, "wait_write": self.background.waited}
        return self._summary({"source": source_s, **preparing, **self.seconds, **ends}, list(preparing))

    @property
    def threads(self) -> int:
        """Chunks that are prepared at a time."""
        return self.options.workers if self.options.crew is None else self.options.crew.slots

    def _prepare(self, chunk: list[Item]) -> tuple[list[Item], list[Prepared] | Delivery]:
        crew = self.options.crew
        return chunk, self._prepare_here(chunk) if crew is None else crew(chunk, self.assembler.known)

    def _prepare_here(self, chunk: Sequence[Item]) -> list[Prepared]:
        return prepare_items(self.preprocess, chunk, self.assembler.known)

    @property
    def processes(self) -> int:
        """How many compute."""
        return 1 if self.options.crew is None else self.options.crew.size

    @cached_property
    def total(self) -> int | None:
        """Items of the source, asked once: ten thousand parquet files add up a million row groups each time."""
        return self.source.count

    @property
    def uncertified(self) -> bool:
        """Whether the certificate is still to come: before the first row, however many items have failed by then."""
        return self.writer.certificate is None and not self.assembler.rows

    def _certify(self, items: Sequence[Item], inputs: Sequence[Prepared]) -> None:
        """On the first good items of the run, else by what the reused store says; failed items call for neither."""
        begin = time.perf_counter()
        size = sample_size(self.total, self.preprocess.modality)
        if sample := take_sample(self.preprocess, [item.content for item in items], inputs, size):
            certificate = certify(self.compute, sample)
            require(certificate)
            if certificate.samples:
                self.writer.certificate = certificate
        elif any(isinstance(prepared, KnownInput) for prepared in inputs):
            theirs = None if self.reuse is None else self.reuse.store.certificate
            if theirs is not None:
                self.writer.certificate = replace(theirs, stored_dtype=None)
        self.seconds["certify"] += time.perf_counter() - begin

    @property
    def unmeasured(self) -> bool:
        """Whether the certificate still lacks what storing costs: it is added with the first rows."""
        certificate = self.writer.certificate
        if certificate is None or certificate.stored_dtype is not None:
            return False
        return self.assembler.rows > 0 and not self.writer.totals.rows

    def _measure_storage(self, results: Results) -> None:
        vectors = thinned(results.vectors[first_pooled(results.vectors)])
        if self.writer.certificate is not None and len(vectors):
            self.writer.certificate = with_storage(self.writer.certificate, vectors, self.writer.dtype)

    def _put(self, results: Results) -> bool:
        """Queue a chunk, cut where it fills a shard; True if the run is to end there.

        Only what is written fills a shard: items that were tried again and failed again must not shift its bounds,
        since a run that is killed and repeated meets them once more.
        """
        shard_rows, should_stop = self.writer.shard_rows, self.options.should_stop
        for part in cut_results(results, shard_rows - self.written % shard_rows):
            self.written += len(part.items)
            self.counts.add(part, self.again)
            shard_ends = self.written % shard_rows == 0
            self.background.put((part, shard_ends))
            if shard_ends and should_stop is not None and should_stop():
                return True
        return False

    def _compute(self, items: Sequence[Item], inputs: Sequence[Prepared] | Delivery) -> Results:
        begin = time.perf_counter()
        results = self.assembler(items, inputs)
        self.seconds["compute"] += time.perf_counter() - begin
        if isinstance(inputs, Delivery):
            self.crew_seconds.update(inputs.seconds)
        if self.options.on_error == "fail":
            _stop_on_failure(results)
        if self.again:
            results = _without(results, self.again)
        return results

    def _write(self, chunk: tuple[Results, bool]) -> None:
        results, shard_ends = chunk
        self.writer.write(results)
        if shard_ends:
            self.writer.end_shard()

    def _report(self) -> None:
        if self.options.on_progress is not None:
            counts, done = self.counts, self.todo.passed + self.drawn
            elapsed = time.perf_counter() - self.begun
            self.options.on_progress(Progress(done, self.total, counts.failed, counts.duplicates, elapsed))

    def _summary(self, stages: dict[str, float], preparing: Sequence[str]) -> Summary:
        counts, totals, seconds = self.counts, self.writer.totals, time.perf_counter() - self.begun
        threads = dict.fromkeys(preparing, self.threads) | {"compute": self.processes}
        utilisation = {name: busy / (seconds * threads.get(name, 1)) for name, busy in stages.items()}
        return Summary(
            store=str(self.writer.path),
            inputs=totals.inputs,
            rows=totals.rows,
            failed=totals.failed,
            duplicates=totals.duplicates,
            resumed=self.todo.passed,
            processed=counts.inputs,
            computed=self.assembler.computed,
            reused=self.assembler.reused,
            retried=counts.retried,
            truncated=counts.truncated,
            tokens=counts.tokens,
            interrupted=self.interrupted,
            seconds=seconds,
            rows_per_s=(counts.inputs - counts.failed) / seconds,
            precision=self.precision.mode,
            layer_precision=dict(self.precision.layers),
            precision_reason=self.precision.reason,
            certificate=self.writer.certificate,
            stages={name: round(value, 4) for name, value in stages.items()},
            utilisation={name: round(value, 4) for name, value in utilisation.items()},
            workers=self.threads,
            processes=self.processes,
            bottleneck=bottleneck(utilisation, preparing, self.threads) if counts.inputs else NOTHING_LEFT,
        )


def _without(results: Results, again: Set[str]) -> Results:
    """The same without the items that were tried again and have failed again: they stay where they are."""
    kept = [i for i, o in enumerate(results.outcomes) if o.status != "failed" or as_stored(o.key) not in again]
    if len(kept) == len(results.items):
        return results
    return replace(
        results,
        items=[results.items[i] for i in kept],
        inputs=[results.inputs[i] for i in kept],
        outcomes=[results.outcomes[i] for i in kept],
    )


def _stop_on_failure(results: Results) -> None:
    for outcome in results.outcomes:
        if outcome.status == "failed":
            raise ItemError(f"{outcome.key}: {outcome.reason}; use --on-error skip to go on past failures")
