"""`Extractor`: a frozen backbone as a function from items to vectors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress import engine, models
from coldpress.data import Columns, Peeked, Source, open_source
from coldpress.engine import Choice, Computer, Progress, RunOptions, Sample, Summary, Trial
from coldpress.engine.inputs import all_good, as_contents
from coldpress.engine.plan import CHUNK_ITEMS, sample_size
from coldpress.engine.stages import ordered_map
from coldpress.errors import ColdpressError, ItemError
from coldpress.models import Calibration, LoadedModel
from coldpress.preprocess import preprocessor_for
from coldpress.store import EmbeddingStore, StoreWriter
from coldpress.types import Certificate, Fingerprint, Modality, Output

NUMERICS = 2
"""Raised whenever a change of coldpress changes the vectors beyond rounding."""


class Extractor:
    """A frozen backbone with its preprocessing, ready to embed.

    Parameters
    ----------
    model : directory in Hugging Face or sentence-transformers layout, ``all-MiniLM-L6-v2`` (packaged), a hub id, or
        what :func:`coldpress.from_module` returned.
    device : ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. ``auto`` takes a GPU where there is one.
    precision : arithmetic. ``auto`` is fp32 until :meth:`run`, :meth:`embed_to` or :meth:`certify` has seen data; from
        then on it is the fastest mode whose certificate passed on a sample of them, or that of the store in question.
        A mode never depends on what :meth:`embed` is given. A named mode is what it says, in every layer.
    layer_precision : other modes for some layers, by name; ``auto`` finds those that the rest needs to pass.
    output : what to return: ``pooled`` (as the model's own files say), ``cls``, ``mean``, ``last``, ``layer:K``, or
        several of them with commas.
    prompt : text in front of every text, or the name of a prompt that the model defines.
    exif : turn images upright as their EXIF data says; upstream preprocessing does not.
    modality : ``image`` or ``text``, of a model with a tower for each (CLIP, SigLIP); None takes the one for images.
    arch : of a single ``.safetensors`` or ``.pth`` file: timm's name, or a directory with all of a model but weights.
    layers : run only so many blocks of a transformer, from the first on, then its final norm, pooling and projection:
        faster, another space. The certificate compares with the fp32 forward of just those blocks.
    fast_decode : read large JPEG files at a half, a quarter or an eighth of their size where that is still above the
        size asked for: faster, not the pixels of upstream; the certificate then measures that too.
    threads : CPU threads while computing; None leaves torch's setting.

    Raises
    ------
    ModelError, ColdpressError
        If the model cannot be used; for an unknown device, precision or output.

    Examples
    --------
    >>> import coldpress
    >>> extractor = coldpress.Extractor("all-MiniLM-L6-v2")
    >>> extractor.embed(["A cat sits on the mat.", "The weather is fine."]).shape
    (2, 384)
    """

    def __init__(
        self,
        model: str | Path | LoadedModel,
        *,
        device: str = "auto",
        precision: str = "auto",
        layer_precision: Mapping[str, str] | None = None,
        output: str = "pooled",
        prompt: str | None = None,
        exif: bool = False,
        fast_decode: bool = False,
        threads: int | None = None,
        modality: Modality | None = None,
        arch: str | None = None,
        layers: int | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self._source = model
        self._options: dict[str, Any] = {
            "device": device,
            "precision": precision,
            "layer_precision": dict(layer_precision or {}),
            "output": output,
            "prompt": prompt,
            "exif": exif,
            "fast_decode": fast_decode,
            "threads": threads,
            "modality": modality,
            "arch": arch,
            "layers": layers,
            "calibration": calibration,
        }
        self.device = engine.open_device(device)
        if isinstance(model, LoadedModel) and layers is not None:
            raise ColdpressError(f"layers is {layers}, and {model.name} is a module as a whole; leave layers out")
        options: Any = {"modality": modality, "arch": arch, "layers": layers}
        loaded = model if isinstance(model, LoadedModel) else models.load(model, **options)
        self.model = models.with_options(loaded, prompt=prompt, exif=exif, fast_decode=fast_decode)
        self.model = replace(self.model, calibration=calibration)
        self.outputs: tuple[Output, ...] = engine.parse_outputs(output, loaded.backbone.depth)
        runnable = loaded.backbone.runnable() if precision == "auto" else loaded.backbone.precisions
        kind = (runnable, self.device.type)
        self._choice = engine.choose_precision(precision, *kind)
        self._candidates = engine.candidates(precision, *kind)
        if len(self._candidates) == 1 and not self._uncalibrated(self._choice.mode):
            self._choice, self._candidates = self._candidates[0], ()
        if layer_precision:
            if precision == "auto":
                raise ColdpressError("layer_precision needs a precision for the other layers; got auto")
            self._choice = engine.choose_layers(self._choice, layer_precision, loaded.backbone.linears(), *kind)
        if threads is not None and threads < 1:
            raise ColdpressError(f"threads is {threads}, expected at least 1")
        self._computer: Computer | None = None
        self._preprocess = preprocessor_for(self.model.spec, loaded.directory)

    def __deepcopy__(self, memo: dict[int, Any]) -> Extractor:
        """Return itself: it is frozen, and a copy of a backbone would only cost memory."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments, never the weights."""
        return _rebuild, (self._source, self._options)

    def __repr__(self) -> str:
        return f"Extractor({self.name!r}, {self.modality}, dim={self.dim}, {self.precision}, {self.device})"

    @property
    def name(self) -> str:
        """What the user called the model."""
        return self.model.name

    @property
    def modality(self) -> Modality:
        """What it takes: ``text`` or ``image``."""
        return self.model.backbone.modality

    @property
    def precision(self) -> str:
        """The arithmetic that was chosen."""
        return self._choice.mode

    @property
    def layer_precision(self) -> dict[str, str]:
        """The arithmetic of the layers that run in another one, by name."""
        return dict(self._choice.layers)

    @property
    def dims(self) -> dict[str, int]:
        """Width of each output."""
        return {output.name: self.model.backbone.dim(output) for output in self.outputs}

    @property
    def dim(self) -> int:
        """Width of the first output."""
        return next(iter(self.dims.values()))

    @property
    def fingerprint(self) -> Fingerprint:
        """Everything that two sets of vectors must share to be comparable."""
        fields = {
            "numerics": NUMERICS,
            "weights": self.model.weights,
            "family": self.model.family,
            "config": dict(self.model.config),
            "preprocessing": asdict(self.model.spec),
            "output": [asdict(output) for output in self.outputs],
            "precision": self.precision,
        }
        if self._choice.layers:
            fields["layer_precision"] = dict(sorted(self._choice.layers.items()))
        if self.precision in self.model.backbone.calibrated:
            fields["calibration"] = self.model.calibration
        if self.model.space and any(output.own for output in self.outputs):
            fields["space"] = {"checkpoint": self.model.space, "tower": self.modality}
        return Fingerprint(fields)

    def embed(self, items: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Embed items that are in memory.

        Parameters
        ----------
        items : texts; or image paths, encoded bytes, PIL images or uint8 arrays (height, width, 3).

        Returns
        -------
        (N, D) float32, one row an item in order; with several outputs, those side by side.

        Raises
        ------
        ItemError
            If an item cannot be embedded; names the first one. ``embed_to`` goes on past such items instead.
        """
        contents = as_contents(items, self.modality)
        size = CHUNK_ITEMS[self.modality]
        chunks = [contents[i : i + size] for i in range(0, len(contents), size)]
        rows, at = [], 0
        for inputs in ordered_map(self._preprocess, chunks, min(_workers(self.modality), max(len(chunks), 1))):
            vectors = self._compute(all_good(inputs, at))
            rows.append(np.concatenate(list(vectors.values()), axis=1))
            if not (finite := np.isfinite(rows[-1]).all(axis=1)).all():
                raise ItemError(f"item {at + int(finite.argmin())}: the vector holds NaN or infinity")
            at += len(inputs)
        return np.concatenate(rows) if rows else np.empty((0, sum(self.dims.values())), np.float32)

    def certify(self, items: Sequence[Any] | npt.NDArray[Any], *, samples: int | None = None) -> Certificate:
        """Compare the vectors of some items with the fp32 reference forward.

        Parameters
        ----------
        items : as for :meth:`embed`; those that cannot be prepared are passed over.
        samples : how many of them, evenly spread; by default 2 %, at least 16 and at most 64 texts or 32 images.

        Raises
        ------
        ItemError
            If none of the sampled items is usable.
        """
        sample = self._sample(items, samples)
        if self._candidates:
            return self._settle(sample)
        return engine.certify(self._compute, sample)

    def compare(self, items: Sequence[Any] | npt.NDArray[Any], *, samples: int | None = None) -> tuple[Trial, ...]:
        """Certify and time every mode that may pay here, the fastest first; arguments and errors of :meth:`certify`.

        A mode that fails follows once more, with the layers that hurt in the next one.
        """
        modes = self._candidates or (self._choice,)
        sample = self._sample(items, samples)
        tried = engine.attempts(modes, lambda choice: self._build(choice, sample), sample)
        return tuple(attempt.trial for attempt in tried)

    def run(
        self,
        out: str | Path,
        source: str | Path | Sequence[Any] | Iterable[Any] | Source,
        *,
        dtype: str = "float16",
        shard_rows: int = 65_536,
        columns: Columns | None = None,
        limit: int | None = None,
        on_error: str = "skip",
        retry_failed: bool = False,
        reuse: str | Path | None = None,
        workers: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Summary:
        """Embed a source into a store: from the start, from where a killed run ended, or what is new in it.

        An input whose key is in the store already is passed over without a look at its content. Equal contents are
        computed once.

        Parameters
        ----------
        out : directory of the store, or a fsspec URL such as ``s3://bucket/store``.
        source : directory, file, pattern, URL, a list of those, a table, a Hugging Face or PyTorch dataset, or any
            iterable of items.
        dtype : how vectors are stored: ``float16`` or ``float32``.
        shard_rows : inputs per shard, the unit that is committed.
        columns : which columns to read from files and tables that have them, and which to keep as metadata.
        limit : take only so many items from the front.
        on_error : ``skip`` logs items that fail and goes on; ``fail`` stops at the first.
        retry_failed : try again what has failed in earlier runs.
        reuse : another store of the same space; what it has by content is copied from it.
        workers : threads that read and preprocess; by default one for text, one a core for images.
        on_progress : called after each chunk, in the calling thread.
        should_stop : asked at the end of each shard; with True the run ends there, to be continued later.

        Returns
        -------
        Summary

        Raises
        ------
        FingerprintMismatch
            If `out` or `reuse` holds vectors of another space.
        CertificateError, ItemError, SourceError, StoreError
            Committed shards stay intact; the same call continues.
        """
        if on_error not in ("skip", "fail"):
            raise ColdpressError(f"on_error is {on_error!r}, expected skip or fail")
        if workers is not None and workers < 1:
            raise ColdpressError(f"workers is {workers}, expected at least 1")
        opened = open_source(source, modality=self.modality, columns=columns or Columns(), limit=limit)
        certificate, begun = None, time.perf_counter()
        if self._candidates:
            stored = engine.stored_choice((out, reuse), self.model.backbone, self.device.type)
            if stored is not None and self._options["precision"] in ("auto", stored.mode):
                self.model = replace(self.model, calibration=stored.calibration)
                self._use(stored)
            else:
                opened = Peeked(opened, min(CHUNK_ITEMS[self.modality], shard_rows))
                certificate = self._settle_on(opened)
        options = RunOptions(
            workers=workers or _workers(self.modality),
            on_error=on_error,
            retry_failed=retry_failed,
            reuse=reuse,
            settling_s=time.perf_counter() - begun,
            on_progress=on_progress,
            should_stop=should_stop,
        )
        with StoreWriter(
            out,
            fingerprint=self.fingerprint,
            dims=self.dims,
            dtype=dtype,
            shard_rows=shard_rows,
            model=self.name,
            source=opened.name,
            description=self.describe(),
        ) as writer:
            if certificate is not None:
                writer.certificate = certificate
            return engine.run(opened, self._preprocess, self._compute, writer, self._choice, options)

    def embed_to(
        self, out: str | Path, source: str | Path | Sequence[Any] | Iterable[Any] | Source, **options: Any
    ) -> EmbeddingStore:
        """Do what :meth:`run` does, with the same options, and open the store.

        Returns
        -------
        EmbeddingStore
        """
        self.run(out, source, **options)
        return EmbeddingStore(out)

    def describe(self) -> dict[str, Any]:
        """How to build this extractor again: the arguments that shape the vectors, ``Extractor(**description)``."""
        shaping = {name: self._options[name] for name in ("arch", "layers", "output", "prompt", "exif", "fast_decode")}
        chosen = {"precision": self.precision, "layer_precision": self.layer_precision}
        calibration = self._options["calibration"]
        return {"model": self.name, "modality": self.modality, **shaping, **chosen, "calibration": calibration}

    @property
    def _compute(self) -> Computer:
        if self._computer is None:
            self._computer = self._build(self._choice)
        return self._computer

    def _uncalibrated(self, mode: str) -> bool:
        return mode in self.model.backbone.calibrated and self.model.calibration is None

    def _build(self, choice: Choice, sample: Sample | None = None) -> Computer:
        if sample is not None and self._uncalibrated(choice.mode):
            self.model = engine.calibrated(self.model, self.outputs, sample.inputs[::2])
        made = self._computer
        if made is not None and (made.precision, made.layer_precision) == (choice.mode, choice.layers):
            return made
        return Computer(self.model, self.outputs, self.device, choice.mode, self._options["threads"], choice.layers)

    def _settle_on(self, source: Peeked) -> Certificate | None:
        """Choose a mode by the first items of a source; without a good one among them it is fp32."""
        prepared = engine.prepare_items(self._preprocess, source.head)
        contents = [item.content for item in source.head]
        sample = engine.take_sample(self._preprocess, contents, prepared, sample_size(source.count, self.modality))
        if not sample and len(self._candidates) == 1:
            raise ItemError(f"none of the first items can be embedded, so that {self.precision} learns nothing of them")
        if not sample:
            self._use(
                Choice("fp32", "none of the first items can be embedded, so that no other mode could be certified")
            )
            return None
        certificate = self._settle(sample)
        engine.require(certificate)
        return certificate

    def _settle(self, sample: Sample) -> Certificate:
        decision = engine.first_passing(self._candidates, lambda choice: self._build(choice, sample), sample)
        self._use(decision.choice, decision.compute)
        return decision.certificate

    def _use(self, choice: Choice, computer: Computer | None = None) -> None:
        """Take a mode for good."""
        self._choice, self._candidates = choice, ()
        self._computer = computer or self._build(choice)
        self.model = replace(self.model, backbone=self._computer.backbone)
        self._options |= {"precision": choice.mode, "layer_precision": dict(choice.layers)}
        self._options["calibration"] = self.model.calibration

    def _sample(self, items: Sequence[Any] | npt.NDArray[Any], samples: int | None) -> Sample:
        contents = as_contents(items, self.modality)
        return engine.spread_sample(self._preprocess, contents, samples or sample_size(len(contents), self.modality))


def _rebuild(model: str | Path | LoadedModel, options: Mapping[str, Any]) -> Extractor:
    return Extractor(model, **options)


def _workers(modality: Modality) -> int:
    return (os.cpu_count() or 1) if modality == "image" else 1
