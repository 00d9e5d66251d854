"""A model on this machine: its modes side by side, and each stage of a run against the limit that it has by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from coldpress.bench.limits import Limits
from coldpress.bench.preparing import decoding_alone, tokenizing_alone
from coldpress.bench.stages import Facts, Stage, stages_of, steady_bottleneck, steady_s
from coldpress.bench.work import flop_per_item
from coldpress.data.source import Limited, Source
from coldpress.engine import Computer, Summary, calibrated, parse_outputs
from coldpress.engine.precision import MODES
from coldpress.errors import CertificateError, ColdpressError
from coldpress.extractor import Extractor
from coldpress.models import LoadedModel
from coldpress.preprocess import preprocessor_for
from coldpress.types import Certificate, Content, Failed, FileRef, Modality, ModelInput, TextInput

PASS_S = 4.0
"""Seconds that one pass over the items may take: a mode makes two, and a warm-up."""

LEAST_ITEMS, PROBE_ITEMS = 32, 16


@dataclass(frozen=True, slots=True)
class Mode:
    """What a mode does with the items: the bare engine, a whole run into a store, and how faithful it is.

    `engine_per_s` is items per second without reading, preparing or storing; `peak_share` the operations of its linear
    layers against the peak of all cores; `store_per_s` is that of a run into a store, its certificate left out: that is
    taken once. The run, its `stages` and its `bottleneck` are missing where the certificate failed.
    """

    precision: str
    engine_per_s: float
    peak_share: float | None
    certificate: Certificate | None
    run: Summary | None
    store_per_s: float | None
    stages: tuple[Stage, ...]
    bottleneck: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """A model, the items it was measured on, and what came out of it, one entry a mode.

    `prepared_alone_per_s` is what the tokenizer or the JPEG decoder does by itself; `bytes_per_item` is what is read.
    """

    model: str
    modality: Modality
    items: int
    tokens_per_item: float | None
    bytes_per_item: float
    flop_per_item: float
    prepared_alone_per_s: float
    modes: tuple[Mode, ...]

    @property
    def best(self) -> Mode:
        """The fastest mode whose certificate passed, or fp32."""
        passed = [mode for mode in self.modes if mode.certificate is not None and mode.certificate.passed]
        return max(passed or self.modes[:1], key=lambda mode: mode.engine_per_s)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        data = asdict(self)
        for mode, made in zip(data["modes"], self.modes, strict=True):
            for stage, own in zip(mode["stages"], made.stages, strict=True):
                stage["reached"] = own.reached
        return data


def measure_model(model: LoadedModel, source: Source, limits: Limits, directory: Path) -> Report:
    """Measure every mode of a model that was just loaded, on items of `source`; stores go below `directory`.

    Takes as many items as the slowest mode computes in a few seconds.

    Raises
    ------
    ColdpressError
        If the source has no item that can be embedded.
    """
    contents = [item.content for item in source.items() if not isinstance(item.content, Failed)]
    prepared = preprocessor_for(model.spec, model.directory)(contents)
    inputs = [one for one in prepared if not isinstance(one, Failed)]
    if not inputs:
        raise ColdpressError(f"{source.name}: no item that this model can embed; nothing to measure")
    outputs, modality = parse_outputs("pooled", model.backbone.depth), model.backbone.modality
    probe = inputs[:PROBE_ITEMS]
    loaded, modes, facts = model, list[Mode](), None
    for name in (name for name in MODES["cpu"] if name in model.backbone.runnable()):
        if modes and model.reload is not None:
            loaded = replace(model, backbone=model.reload())
        if name in model.backbone.calibrated:
            loaded = calibrated(loaded, outputs, probe)
        compute = Computer(loaded, outputs, torch.device("cpu"), name, limits.threads)
        if facts is None:
            inputs = inputs[: _affordable(compute, inputs)]
            flop = flop_per_item(compute.backbone, probe, outputs) / _size(probe)
            facts = Facts(modality, flop * _size(inputs), *_preparing(model, contents[: len(inputs)], limits.threads))
        modes.append(_measure_mode(loaded, compute, inputs, Limited(source, len(inputs)), limits, facts, directory))
    assert facts is not None
    return Report(
        model=model.name,
        modality=modality,
        items=len(inputs),
        tokens_per_item=_size(inputs) if modality == "text" else None,
        bytes_per_item=facts.bytes_per_item,
        flop_per_item=facts.flop_per_item,
        prepared_alone_per_s=facts.prepared_alone_per_s,
        modes=tuple(modes),
    )


def _size(inputs: Sequence[ModelInput]) -> float:
    """Mean number of tokens of texts; 1 for images, which are all alike."""
    return sum(len(item.ids) if isinstance(item, TextInput) else 1 for item in inputs) / len(inputs)


def _affordable(compute: Computer, inputs: Sequence[ModelInput]) -> int:
    """How many of the inputs are computed in the time of a pass, by what a few of them take."""
    probe = inputs[:PROBE_ITEMS]
    compute(probe)
    begin = time.perf_counter()
    compute(probe)
    per_s = len(probe) / (time.perf_counter() - begin)
    return min(len(inputs), max(LEAST_ITEMS, int(per_s * PASS_S)))


def _preparing(model: LoadedModel, contents: Sequence[Content], threads: int) -> tuple[float, float]:
    """Bytes of an item, and items per second that can be prepared at most."""
    texts = [content for content in contents if isinstance(content, str)]
    if model.backbone.modality == "text":
        return sum(len(text.encode()) for text in texts) / len(texts), tokenizing_alone(model, texts)
    files = [content.read() if isinstance(content, FileRef) else content for content in contents]
    encoded = [file for file in files if isinstance(file, bytes)]
    return sum(map(len, encoded)) / max(len(encoded), 1), decoding_alone(encoded, threads)


def _measure_mode(
    model: LoadedModel,
    compute: Computer,
    inputs: Sequence[ModelInput],
    source: Source,
    limits: Limits,
    facts: Facts,
    directory: Path,
) -> Mode:
    compute(inputs[: max(LEAST_ITEMS, len(inputs) // 8)])
    begin = time.perf_counter()
    compute(inputs)
    engine_per_s = len(inputs) / (time.perf_counter() - begin)
    extractor = Extractor(
        model, device="cpu", precision=compute.precision, threads=limits.threads, calibration=model.calibration
    )
    run, peak = None, limits.peak(compute.precision) if facts.flop_per_item else None
    with TemporaryDirectory(prefix=".coldpress-bench-", dir=directory) as scratch:
        try:
            run = extractor.run(Path(scratch) / "store", source)
            certificate = run.certificate
        except CertificateError:
            certificate = extractor.certify([item.content for item in source.items()])
    return Mode(
        precision=compute.precision,
        engine_per_s=engine_per_s,
        peak_share=None if peak is None else engine_per_s * facts.flop_per_item / peak,
        certificate=certificate,
        run=run,
        store_per_s=None if run is None else run.processed / steady_s(run),
        stages=() if run is None else stages_of(run, limits, facts, extractor.dim),
        bottleneck=None if run is None else steady_bottleneck(run, facts),
    )
