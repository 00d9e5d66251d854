"""`Extractor`: a frozen backbone as a function from items to vectors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress import engine, models
from coldpress.data import Columns, Peeked, Source, open_source
from coldpress.engine import Arithmetic, Attempt, Computer, Progress, Reduction, RunOptions, Sample, Summary, Trial
from coldpress.engine.inputs import all_good, as_contents, prepare_chunks
from coldpress.engine.plan import CHUNK_ITEMS, chunk_size, group_size, sample_size
from coldpress.engine.vectors import rows_of
from coldpress.errors import ColdpressError, ItemError
from coldpress.models import Calibration, LoadedModel
from coldpress.preprocess import preprocessor_for
from coldpress.store import EmbeddingStore, Projection, StoreWriter, check_place
from coldpress.types import Certificate, Failed, Fingerprint, Modality, ModelInput, Output

logger = logging.getLogger(__name__)


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
    output : what to return: ``pooled`` (as the model's own files say), ``cls``, ``mean``, ``last``, ``layer:K``,
        ``tokens`` of texts and ``patches`` of images (a matrix an item, into a store), or several with commas.
    prompt : text in front of every text, or the name of a prompt that the model defines.
    exif : turn images upright as their EXIF data says; upstream preprocessing does not.
    modality : ``image`` or ``text``, of a model with a tower for each (CLIP, SigLIP); None takes the one for images.
    arch : of a single ``.safetensors`` or ``.pth`` file: timm's name, or a directory with all of a model but weights.
    layers : run only so many blocks of a transformer, from the first on, then its final norm, pooling and projection:
        faster, another space. The certificate compares with the fp32 forward of just those blocks.
    merge_tokens : let every block of a vision transformer merge so many patches of an image, the most similar ones:
        faster, another space. The certificate compares with the fp32 forward that merges too, and says besides how
        close the vectors are to those of all patches. Not for outputs ``patches`` and ``last``.
    image_size : side of a square, or (height, width), instead of the model's own; positions are resampled as upstream.
        ``native`` lets a vision transformer see every image in its own shape, with at most as many patches as in the
        model's own size, ``native:N`` with N at most.
    fast_decode : read large JPEG files at a half, a quarter or an eighth of their size where that is still above the
        size asked for: faster, not the pixels of upstream; the certificate then measures that too. ``gpu`` has a GPU
        decode and resize them, by nvImageCodec or torchvision, ``gpu:60`` 60 % of them, chosen by their contents.
    threads : CPU threads while computing; None leaves torch's setting.
    truncate_dim : keep so many numbers of each vector, from its front: for Matryoshka models. Where the model's vectors
        have length 1, the shorter ones have too.
    pca : keep so many principal directions, fitted by :meth:`run` on the first 2,048 items and kept in the store; or
        those of a store (``store.projection``).

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
        fast_decode: bool | str = False,
        threads: int | None = None,
        modality: Modality | None = None,
        arch: str | None = None,
        truncate_dim: int | None = None,
        pca: int | Projection | None = None,
        layers: int | None = None,
        merge_tokens: int = 0,
        image_size: int | Sequence[int] | str | None = None,
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
            "truncate_dim": truncate_dim,
            "pca": pca,
            "layers": layers,
            "merge_tokens": merge_tokens,
            "image_size": image_size,
            "calibration": calibration,
        }
        if threads is not None and threads < 1:
            raise ColdpressError(f"threads is {threads}, expected at least 1")
        self.device = engine.open_device(device)
        if isinstance(model, LoadedModel):
            models.Variant(layers, merge_tokens, image_size).refuse(f"{model.name} is a module as a whole")
            loaded = model
        else:
            changed: Any = {"layers": layers, "merge_tokens": merge_tokens, "image_size": image_size}
            loaded = models.load(model, modality=modality, arch=arch, **changed)
        shaped = models.with_options(loaded, prompt=prompt, exif=exif, fast_decode=fast_decode)
        self.outputs: tuple[Output, ...] = engine.parse_outputs(output, loaded.backbone.depth, loaded.backbone.dense)
        engine.check_merged(merge_tokens, self.outputs)
        self._arithmetic = Arithmetic(
            replace(shaped, calibration=calibration),
            self.outputs,
            self.device,
            precision=precision,
            layer_precision=layer_precision or {},
            threads=threads,
            reduction=Reduction(truncate_dim, engine.pack(pca), normalize=loaded.backbone.normalize),
        )
        widths = {output.name: loaded.backbone.dim(output) for output in self.outputs}
        engine.check_reduction(truncate_dim, pca, widths)
        self.dims: dict[str, int] = self._arithmetic.reduction.dims(widths)
        if isinstance(pca, int):
            self.dims = dict.fromkeys(widths, pca)
        self._preprocess = preprocessor_for(self.model.spec, loaded.directory)

    def __deepcopy__(self, memo: dict[int, Any]) -> Extractor:
        """Return itself: it is frozen, and a copy of a backbone would only cost memory."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments, never the weights."""
        return _rebuild, (self._source, self._options | self._arithmetic.options())

    def __repr__(self) -> str:
        return f"Extractor({self.name!r}, {self.modality}, dim={self.dim}, {self.precision}, {self.device})"

    @property
    def model(self) -> LoadedModel:
        """The backbone with all that it needs."""
        return self._arithmetic.model

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
        return self._arithmetic.choice.mode

    @property
    def layer_precision(self) -> dict[str, str]:
        """The arithmetic of the layers that run in another one, by name."""
        return dict(self._arithmetic.choice.layers)

    @property
    def dim(self) -> int:
        """Width of the first output with a vector an item, if there is one, else of the first."""
        return self.dims[next((output.name for output in self.outputs if not output.dense), self.outputs[0].name)]

    @property
    def fingerprint(self) -> Fingerprint:
        """Everything that two sets of vectors must share to be comparable."""
        options = self._options
        return engine.fingerprint(
            self.model,
            self.outputs,
            self._arithmetic.choice,
            dim=self.dim,
            truncate_dim=options["truncate_dim"],
            pca=options["pca"],
        )

    def embed(self, items: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Embed items that are in memory.

        Parameters
        ----------
        items : texts; or image paths, encoded bytes, PIL images or uint8 arrays (height, width, 3).

        Returns
        -------
        (N, D) float32, one row an item in order; with several outputs, those side by side, without tokens and patches.

        Raises
        ------
        ColdpressError
            If there is no output but tokens or patches.
        ItemError
            If an item cannot be embedded; names the first one. ``embed_to`` goes on past such items instead.
        """
        contents = as_contents(items, self.modality)
        rows, at = [self.compute([])], 0
        size = chunk_size(self.modality, self.outputs) * group_size(self.modality, self.device.type)
        for inputs in prepare_chunks(self._preprocess, contents, size):
            rows.append(self.compute(all_good(inputs, at)))
            if not (finite := np.isfinite(rows[-1]).all(axis=1)).all():
                raise ItemError(f"item {at + int(finite.argmin())}: the vector holds NaN or infinity")
            at += len(inputs)
        return np.concatenate(rows)

    def prepare(self, items: Sequence[Any] | npt.NDArray[Any]) -> Sequence[ModelInput | Failed]:
        """The first half of :meth:`embed`: what the backbone takes, or why it cannot be had, for each item."""
        return self._preprocess(as_contents(items, self.modality))

    def compute(self, inputs: Sequence[ModelInput]) -> npt.NDArray[np.float32]:
        """The second half of :meth:`embed`: the vectors of prepared items, finite or not."""
        pooled = [output.name for output in self.outputs if not output.dense]
        if not pooled:
            raise ColdpressError(f"{self.outputs[0].name} are a matrix an item: use embed_to(), or add a pooled output")
        vectors = self._compute(inputs)
        return np.concatenate([rows_of(vectors[name]) for name in pooled], axis=1)

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
        return self._arithmetic.certify(self._sample(items, samples))

    def compare(self, items: Sequence[Any] | npt.NDArray[Any], *, samples: int | None = None) -> tuple[Trial, ...]:
        """Certify and time every mode that may pay here, the fastest first; arguments and errors of :meth:`certify`.

        A mode that fails follows once more, with the layers that hurt in the next one.
        """
        return tuple(attempt.trial for attempt in self.attempts(self._sample(items, samples)))

    def attempts(self, sample: Sample) -> Iterator[Attempt]:
        """Yield what :meth:`compare` tries, each with what computes so."""
        return self._arithmetic.attempts(sample)

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
        dtype : how vectors are stored: ``float16``, ``float32``, ``int8`` or ``binary``.
        shard_rows : inputs per shard, the unit that is committed.
        columns : which columns to read from files and tables that have them, and which to keep as metadata.
        limit : take only so many items from the front.
        on_error : ``skip`` logs items that fail and goes on; ``fail`` stops at the first.
        retry_failed : try again what has failed in earlier runs.
        reuse : another store of the same space; what it has by content is copied from it.
        workers : threads that read and preprocess; by default three for texts, one a core for images.
        on_progress : called after each chunk, in the calling thread.
        should_stop : asked at the end of each shard; with True the run ends there, to be continued later.

        Raises
        ------
        FingerprintMismatch
            If `out` or `reuse` holds vectors of another space.
        CertificateError, ItemError, SourceError, StoreError
            Committed shards stay intact; the same call continues.
        """
        options = engine.run_options(
            self.modality, workers, on_error, retry_failed=retry_failed, reuse=reuse, on_progress=on_progress
        )
        opened = open_source(source, modality=self.modality, columns=columns or Columns(), limit=limit)
        with self.begin(out, opened, replace(options, should_stop=should_stop), dtype, shard_rows) as run:
            return run()

    @contextmanager
    def begin(
        self, out: str | Path, source: Source, options: RunOptions, dtype: str, shard_rows: int
    ) -> Iterator[engine.Run]:
        """Settle what is to be settled on the data, open the store, and give the run that is then to be done."""
        check_place(out)
        certificate, begun, opened = None, time.perf_counter(), source
        if self._arithmetic.candidates:
            stored = engine.stored_choice((out, options.reuse), self.model.backbone, self.device.type)
            if stored is not None and self._options["precision"] in ("auto", stored.mode):
                self._arithmetic.settle_as(stored)
            else:
                opened = Peeked(source, min(CHUNK_ITEMS[self.modality], shard_rows))
                certificate = self._arithmetic.settle_on(opened, self._preprocess)
        if isinstance(self._options["pca"], int):
            certificate = None  # was of vectors that are not reduced yet
            self._reduce(engine.stored_projection((out, options.reuse)), source, options.workers)
        with StoreWriter(
            out,
            fingerprint=self.fingerprint,
            dims=self.dims,
            dtype=dtype,
            shard_rows=shard_rows,
            model=self.name,
            source=opened.name,
            description=self.describe(),
            projection=self._options["pca"],
            ragged=[output.name for output in self.outputs if output.dense],
        ) as writer:
            if certificate is not None:
                writer.certificate = certificate
            options = replace(options, settling_s=time.perf_counter() - begun)
            yield engine.Run(opened, self._preprocess, self._compute, writer, self._arithmetic.choice, options)

    def embed_to(
        self, out: str | Path, source: str | Path | Sequence[Any] | Iterable[Any] | Source, **options: Any
    ) -> EmbeddingStore:
        """Do what :meth:`run` does, with the same options, and open the store."""
        self.run(out, source, **options)
        store = EmbeddingStore(out)
        if store.failed:
            key, reason = next(store.failures())
            logger.warning("%s: %d of %d inputs failed, %s: %s", out, store.failed, store.inputs, key, reason)
        return store

    def describe(self) -> dict[str, Any]:
        """How to build this extractor again, ``Extractor(**description)``; a fitted `pca` comes beside it."""
        shaping = {name: self._options[name] for name in _SHAPING}
        chosen = {"precision": self.precision, "layer_precision": self.layer_precision}
        calibration = self.model.calibration if self.precision in self.model.backbone.calibrated else None
        return {"model": self.name, "modality": self.modality, **shaping, **chosen, "calibration": calibration}

    def worker(self) -> engine.Worker:
        """Return what prepares and computes chunks of a run elsewhere, see :mod:`coldpress.distributed`."""
        return engine.Worker(self._preprocess, self._compute)

    @property
    def reduction(self) -> Reduction:
        """How vectors are made shorter, behind the backbone."""
        return self._arithmetic.reduction

    @property
    def _compute(self) -> Computer:
        if isinstance(pca := self._options["pca"], int):
            raise ColdpressError(f"pca {pca} has to see some data first: embed a source with run() or embed_to()")
        return self._arithmetic.computer

    def _reduce(self, stored: Projection | None, source: Source, workers: int) -> None:
        fitting = (source, self._preprocess, self._arithmetic.computer, self.dim, workers)
        self._options["pca"] = projection = stored or engine.fit_projection(*fitting)
        self._arithmetic.reduction = replace(self._arithmetic.reduction, packed=engine.pack(projection))

    def _sample(self, items: Sequence[Any] | npt.NDArray[Any], samples: int | None) -> Sample:
        contents = as_contents(items, self.modality)
        return engine.spread_sample(self._preprocess, contents, samples or sample_size(len(contents), self.modality))


_SHAPING = ("arch", "layers", "merge_tokens", "image_size", "output", "prompt", "exif", "fast_decode", "truncate_dim")


def _rebuild(model: str | Path | LoadedModel, options: Mapping[str, Any]) -> Extractor:
    return Extractor(model, **options)
