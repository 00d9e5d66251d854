"""Any other network as a backbone: a transformers architecture without a native family, or any ``torch.nn.Module``.

Library kernels change their results with the batch size and the thread count, so on a CPU every item runs alone, in
a worker that uses one thread, and as many items run at once as there are threads. That keeps the promise that an
item's vector does not depend on its company, and costs convolutional networks little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from coldpress import ops
from coldpress.errors import MissingExtra, ModelError
from coldpress.models.base import LoadedModel
from coldpress.models.folding import folded
from coldpress.models.openvino import Calibrated
from coldpress.models.weights import first_few, hash_tensors
from coldpress.models.workers import single_threaded_workers
from coldpress.types import Batch, ImageBatch, ImageSpec, MixedBatch, Modality, Output, Spec

Vectors = Mapping[str, torch.Tensor]


class Generic(Calibrated):
    """Wraps a module; `run` maps one item to the vector of each output."""

    batch_parallel = padded = False

    def __init__(self, module: nn.Module, modality: Modality, width: int, depth: int) -> None:
        super().__init__()
        self.module = module.eval().requires_grad_(requires_grad=False)
        self.modality, self.width, self.depth = modality, width, depth
        self.pooling, self.normalize = "mean", False
        self.run: Callable[[nn.Module, torch.Tensor, Sequence[Output]], Vectors] = _run_module
        self.exact: nn.Module | None = None
        self._workers: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Threads stay where they are: another process starts its own."""
        return {**self.__dict__, "_workers": None}

    def prepare(self, precision: str = "fp32", layer_precision: Mapping[str, str] | None = None) -> None:
        """Fold the normalisations of an image network into its convolutions; see :meth:`Backbone.prepare`."""
        if self.prepared is None and isinstance(self.module, _Normalise):
            self.exact, self.module = self.module, folded(self.module, self.module.example())
        super().prepare(precision, layer_precision)

    def traceable(self, outputs: Sequence[Output]) -> nn.Module:
        """Return the network for one image, its normalisations not folded."""
        return _Traced(self, outputs)

    def forward(self, batch: Batch, outputs: Sequence[Output]) -> dict[str, torch.Tensor]:
        """Return each output as (B, D) float32."""
        module = self.exact if self.exact is not None and ops.in_reference_mode() else self.module
        run = torch.inference_mode()(lambda item: self.run(module, item, outputs))
        items = _items(batch)
        rows = list(self._pool().map(run, items)) if items and items[0].device.type == "cpu" else [*map(run, items)]
        width = self.width
        return {
            o.name: torch.stack([row[o.name] for row in rows]).float() if rows else torch.empty(0, width)
            for o in outputs
        }

    def _pool(self) -> ThreadPoolExecutor:
        threads = torch.get_num_threads()
        if self._workers is not None and cast(Any, self._workers)._max_workers != threads:
            self._workers.shutdown(wait=False)
            self._workers = None
        if self._workers is None:
            self._workers = single_threaded_workers(threads)
        return self._workers


def _run_module(module: nn.Module, item: torch.Tensor, outputs: Sequence[Output]) -> Vectors:
    features = module(item)
    return {o.name: _flat(features) for o in outputs}


class _Traced(nn.Module):
    """One image to a tuple of vectors, the form in which other engines take a network."""

    def __init__(self, backbone: Generic, outputs: Sequence[Output]) -> None:
        super().__init__()
        self.module = backbone.module if backbone.exact is None else backbone.exact
        self.steps = backbone.run
        self.outputs = tuple(outputs)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.steps(self.module, pixels, self.outputs).values())


def _items(batch: Batch) -> list[torch.Tensor]:
    """Split a batch into inputs of one item: pixels (height, width, 3) or ids (T,)."""
    if isinstance(batch, ImageBatch | MixedBatch):
        return list(batch.pixels if isinstance(batch, ImageBatch) else batch.images)
    return list(torch.split(batch.ids, batch.cu_seqlens.diff().tolist()))


def _flat(features: Any) -> torch.Tensor:
    """One vector from what a module returned for one item: (1, D), (1, T, D) or (1, C, h, w)."""
    if not isinstance(features, torch.Tensor):
        raise ModelError(f"the module returned {type(features).__name__}, expected a tensor of features")
    if features.dim() == 4:
        return features.mean(dim=(2, 3))[0]
    return features.mean(dim=1)[0] if features.dim() == 3 else features.reshape(-1)


class _Normalise(nn.Module):
    """uint8 (height, width, 3) to normalised float32 (1, 3, height, width) in front of an image module.

    The steps and their roundings are those of the transformers processors, so that an image network gets the very
    values that it gets there.
    """

    def __init__(self, module: nn.Module, spec: ImageSpec) -> None:
        super().__init__()
        self.module = module
        self.rescale, self.size = spec.rescale, spec.size
        self.layout = torch.contiguous_format
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(spec.mean), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std), persistent=False)

    def example(self) -> torch.Tensor:
        """Noise (height, width, 3), the same every time."""
        draw = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (*(self.size or (224, 224)), 3), dtype=torch.uint8, generator=draw)
        return pixels.to(self.mean.device)

    def forward(self, pixels: torch.Tensor, **options: Any) -> Any:
        values = ((pixels.double() * self.rescale).float() - self.mean) / self.std
        return self.module(values.permute(2, 0, 1).unsqueeze(0).contiguous(memory_format=self.layout), **options)


def from_module(module: nn.Module, spec: ImageSpec, *, name: str) -> LoadedModel:
    """Use a ``torch.nn.Module`` on images as a backbone.

    Parameters
    ----------
    module : maps (B, 3, height, width) float32 to features (B, D), or to (B, T, D) or (B, C, h, w), which are averaged.
    spec : how images become its input; of a fixed size.
    name : what to call it, in stores and messages.

    Returns
    -------
    LoadedModel
        Ready for ``coldpress.Extractor``.

    Raises
    ------
    ModelError
        If the size is not fixed, or the module does not run on such an input.

    Examples
    --------
    >>> import coldpress, torch                                           # doctest: +SKIP
    >>> spec = coldpress.ImageSpec(("exact", 32, 32), None, "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3)
    >>> extractor = coldpress.Extractor(coldpress.from_module(network, spec, name="mine"))
    """
    if spec.size is None:
        raise ModelError("from_module needs images of a fixed size: give the spec a crop, or an exact resize")
    weights = hash_tensors(module.state_dict())
    architecture, reload = {"architecture": repr(module)}, partial(_of_module, module, spec)
    return LoadedModel(reload(), spec, "module", architecture, weights, name, reload=reload)


def _of_module(module: nn.Module, spec: ImageSpec) -> Generic:
    backbone = Generic(_Normalise(module, spec), "image", width=0, depth=0)
    _measure(backbone, spec)
    return backbone


def _measure(backbone: Generic, spec: ImageSpec) -> None:
    """Find the width, and whether there is an int8 form of it."""
    probe = torch.zeros(*(spec.size or (224, 224)), 3, dtype=torch.uint8)
    with torch.inference_mode():
        vectors = backbone.run(backbone.module, probe, [Output("pooled", None, "model")])
    backbone.width = vectors["pooled"].numel()
    if spec.size is not None and any(isinstance(module, nn.Conv2d) for module in backbone.modules()):
        backbone.precisions, backbone.calibrated = ("fp32", "int8"), ("int8",)


def from_transformers(directory: Path, spec: Spec, pooling: ops.Pooling | None, *, normalize: bool) -> Generic:
    """Load a model directory through transformers, its own code only.

    Raises
    ------
    MissingExtra
        If transformers is not installed.
    ModelError
        If transformers cannot load it.
    """
    try:
        from transformers import AutoModel
        from transformers.utils import logging as transformers_logging
    except ImportError:
        raise MissingExtra(f"The architecture of {directory.name}", "transformers", "transformers") from None
    quiet: Any = transformers_logging  # its report of dropped task heads and its progress bar are noise here
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    try:
        network, report = AutoModel.from_pretrained(
            directory,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # so that the report names them
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises many types; all mean that this directory does not load
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"transformers cannot load {directory}: {reason}") from error
    _check_complete(directory, network, report, needs_pooler=isinstance(spec, ImageSpec))
    config = network.config
    depth = int(getattr(config, "num_hidden_layers", 0) or 0)
    backbone = Generic(network, "image", int(getattr(config, "hidden_size", 0) or 0), depth)
    backbone.normalize = normalize
    if isinstance(spec, ImageSpec):
        backbone.module = _Normalise(network, spec)
        backbone.run = _image_runner(backbone)
        _measure(backbone, spec)
    else:
        backbone.modality = "text"
        backbone.pooling = pooling or "mean"
        backbone.run = _text_runner(backbone)
    return backbone


def _check_complete(directory: Path, network: nn.Module, report: Mapping[str, Any], *, needs_pooler: bool) -> None:
    """Refuse a network that transformers filled up with random weights.

    Text vectors come from the tokens, so that a pooler may be absent; it becomes zero, for the fingerprint hashes it.
    """
    misshaped = [f"{name} is {tuple(got)}, not {tuple(want)}" for name, got, want in sorted(report["mismatched_keys"])]
    absent = sorted(report["missing_keys"])
    missing = absent if needs_pooler else [name for name in absent if "pooler" not in name]
    found = (("missing", missing), ("wrong shape", misshaped))
    problems = [f"{what}: {first_few(names)}" for what, names in found if names]
    if problems:
        raise ModelError(f"{directory}: the weights do not fit config.json; {'; '.join(problems)}")
    tensors = network.state_dict()
    for name in absent:
        tensors[name].zero_()


def _image_runner(backbone: Generic) -> Callable[[nn.Module, torch.Tensor, Sequence[Output]], Vectors]:
    """`model` pooling is the network's own pooled output where it has one."""

    def run(module: nn.Module, item: torch.Tensor, outputs: Sequence[Output]) -> Vectors:
        deep = any(o.layer is not None for o in outputs)
        result = module(item, output_hidden_states=deep)
        vectors = {}
        for o in outputs:
            hidden = result.last_hidden_state if o.layer is None else result.hidden_states[o.layer]
            pooled = getattr(result, "pooler_output", None) if o.layer is None and o.pooling == "model" else None
            if o.pooling in ("cls", "last") and hidden.dim() == 3:
                pooled = hidden[:, 0 if o.pooling == "cls" else -1]
            elif o.pooling in ("cls", "last"):
                raise ModelError(f"output {o.name!r}: a convolutional network has no such token; use pooled or mean")
            vectors[o.name] = _finish(_flat(hidden if pooled is None else pooled), backbone)
        return vectors

    return run


def _text_runner(backbone: Generic) -> Callable[[nn.Module, torch.Tensor, Sequence[Output]], Vectors]:
    def run(module: nn.Module, item: torch.Tensor, outputs: Sequence[Output]) -> Vectors:
        deep = any(o.layer is not None for o in outputs)
        ids = item.long().unsqueeze(0)
        result = module(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=deep)
        vectors = {}
        for o in outputs:
            hidden = (result.last_hidden_state if o.layer is None else result.hidden_states[o.layer])[0]
            pooling = backbone.pooling if o.pooling == "model" else o.pooling
            pooled = hidden.mean(0) if pooling == "mean" else hidden[0 if pooling == "cls" else -1]
            if backbone.head is not None and o.own:
                pooled = backbone.head(pooled[None])[0]
            vectors[o.name] = _finish(pooled, backbone)
        return vectors

    return run


def _finish(vector: torch.Tensor, backbone: Generic) -> torch.Tensor:
    return nn.functional.normalize(vector, dim=0) if backbone.normalize else vector
