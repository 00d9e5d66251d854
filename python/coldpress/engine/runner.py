"""Three stages with bounded queues between them: read and preprocess, compute, write.

Nothing holds the data set in memory. A chunk of items is the unit that travels; a shard of the store covers a fixed
range of inputs, so what it holds follows from its inputs and the fingerprint alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from coldpress.data import Source
from coldpress.engine.assemble import Assembler
from coldpress.engine.certificate import certify, require
from coldpress.engine.compute import Computer
from coldpress.engine.plan import chunk_items, sample_size
from coldpress.engine.precision import Choice
from coldpress.engine.stages import Background, ordered_map
from coldpress.engine.summary import Progress, Summary, bottleneck
from coldpress.errors import ItemError
from coldpress.preprocess import Preprocessor
from coldpress.store import StoreWriter
from coldpress.types import Failed, Item, ModelInput, Results


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run, as opposed to what to compute."""

    workers: int
    on_error: str = "skip"
    on_progress: Callable[[Progress], None] | None = None


@dataclass(slots=True)
class _Counts:
    failed: int = 0
    duplicates: int = 0
    rows: int = 0
    inputs: int = 0
    truncated: int = 0
    tokens: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, results: Results) -> None:
        """Count a chunk."""
        for outcome, prepared in zip(results.outcomes, results.inputs, strict=True):
            self.inputs += 1
            self.failed += outcome.status == "failed"
            self.duplicates += outcome.status == "duplicate"
            self.truncated += getattr(prepared, "truncated", False)
            self.tokens += len(getattr(prepared, "ids", ()))
        self.rows = self.inputs - self.failed


def run(
    source: Source,
    preprocess: Preprocessor,
    compute: Computer,
    writer: StoreWriter,
    precision: Choice,
    options: RunOptions,
) -> Summary:
    """Embed what the store does not hold yet, and mark it complete.

    Raises
    ------
    CertificateError
        Before anything is stored, if the vectors are too far from the reference.
    ItemError
        With ``on_error="fail"``, at the first item that fails; committed shards stay.
    SourceError, StoreError
        If reading or writing fails as a whole; committed shards stay.
    """
    start, resumed, shard_rows = time.perf_counter(), writer.committed_inputs, writer.shard_rows
    counts, stages = _Counts(), {"read": 0.0, **preprocess.seconds, "certify": 0.0, "compute": 0.0}
    assembler = Assembler(compute, writer.dtype)
    modality = preprocess.modality

    def prepare(chunk: list[Item]) -> tuple[list[Item], list[ModelInput | Failed]]:
        return chunk, prepare_items(preprocess, chunk)

    fresh = writer.committed_inputs == 0 and writer.certificate is None
    if not writer.complete:
        chunks = chunk_items(source.items(resumed), modality, resumed, shard_rows)
        prepared = ordered_map(prepare, chunks, options.workers)
        with closing(prepared), Background(writer.write) as background:
            waiting = time.perf_counter()
            for items, inputs in prepared:
                now = time.perf_counter()
                _spend(stages, "wait_input", now - waiting)
                if fresh and (sample := _sample(inputs, sample_size(source.count, modality))):
                    certificate = certify(compute, sample, precision.mode)
                    require(certificate)
                    writer.certificate = certificate
                    fresh = False
                    _spend(stages, "certify", time.perf_counter() - now)
                    now = time.perf_counter()
                if (resumed + counts.inputs) % shard_rows == 0:
                    assembler.forget()
                results = assembler(items, inputs)
                _spend(stages, "compute", time.perf_counter() - now)
                if options.on_error == "fail":
                    _stop_on_failure(results)
                background.put(results)
                counts.add(results)
                if options.on_progress is not None:
                    elapsed = time.perf_counter() - start
                    options.on_progress(
                        Progress(resumed + counts.inputs, source.count, counts.failed, counts.duplicates, elapsed)
                    )
                waiting = time.perf_counter()
            background.drain()
            writer.finish()
        stages |= {name: seconds - stages[name] for name, seconds in preprocess.seconds.items()}
        stages |= {"write": background.busy, "wait_write": background.waited}
    seconds = time.perf_counter() - start
    totals = writer.totals
    return Summary(
        store=str(writer.path),
        inputs=totals.inputs,
        rows=totals.rows,
        failed=totals.failed,
        duplicates=totals.duplicates,
        truncated=counts.truncated,
        tokens=counts.tokens,
        resumed=resumed,
        seconds=seconds,
        rows_per_s=counts.rows / seconds,
        precision=precision.mode,
        precision_reason=precision.reason,
        certificate=writer.certificate,
        stages={name: round(value, 4) for name, value in stages.items()},
        bottleneck=bottleneck(stages, seconds if counts.inputs else 0.0),
    )


def prepare_items(preprocess: Preprocessor, items: Sequence[Item]) -> list[ModelInput | Failed]:
    """Preprocess a chunk; entries that the source itself could not read stay failed."""
    contents = [item.content for item in items if not isinstance(item.content, Failed)]
    prepared = iter(preprocess(contents))
    return [item.content if isinstance(item.content, Failed) else next(prepared) for item in items]


def _sample(inputs: Sequence[ModelInput | Failed], size: int) -> list[ModelInput]:
    """Distinct good inputs, spread over the chunk."""
    good = {item.content_hash: item for item in inputs if not isinstance(item, Failed)}
    step = max(1, len(good) // size)
    return list(good.values())[::step][:size]


def _stop_on_failure(results: Results) -> None:
    for outcome in results.outcomes:
        if outcome.status == "failed":
            raise ItemError(f"{outcome.key}: {outcome.reason}; use --on-error skip to go on past failures")


def _spend(stages: dict[str, float], name: str, seconds: float) -> None:
    stages[name] = stages.get(name, 0.0) + seconds
