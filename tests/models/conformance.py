"""What a family states about itself for the conformance suite, and the upstream side of every comparison.

A family's ``test_<family>.py`` exposes ``CASES``; ``test_conformance.py`` finds them and does the rest.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from coldpress import models
from coldpress.models.convolutional import ConvolutionalBackbone
from coldpress.ops import Pooling
from coldpress.preprocess.text import TextPreprocessor
from coldpress.types import Batch, ImageBatch, ImageSpec, MixedBatch, Modality, Output, TextBatch

Tensors = dict[str, torch.Tensor]
Vectors = Mapping[str, torch.Tensor]

K = 4
"""Our fp32 error may be this multiple of the framework's own, both against its float64 forward.

Both errors are the largest of a few hundred values that differ by the order of summation alone, so their ratio
scatters around one; over all cases here but one it stays below 2.8 beside a framework on AVX-512 or AVX2 and below 3.8
on SSE, and a wrong epsilon, activation or position is off by factors of thousands.
"""

INT8_COSINE = 0.99
"""Least cosine of int8 with fp32: tiny random networks are the worst case, few values to average the rounding over."""

FLOOR_ULPS = 4
"""Errors below this many units in the last place of the largest value are rounding, whatever the framework's are."""


@dataclass(frozen=True)
class Case:
    """One tiny upstream model and the files that its directory has beside the weights.

    `build` returns a transformers model; its weights are drawn again by :func:`randomise`. `files` maps a path in the
    directory to its text, or to a value that is written as JSON. `pooling` and `normalize` are what coldpress is
    expected to read there. `prefix` counts the tokens that a mean leaves out. `options` go to the upstream forward.
    `tower` is the part of the model that returns the tokens; `final` turns its result, of the whole model, into the
    final tokens and, where those are not pooled as `pooling` says, the model's own vector. `modality` asks for one of
    two towers. Texts are as long as `lengths` says, and end with the last word of the vocabulary.
    `blocks` finds the modules whose outputs are layers, where they are not a list of their own. `optional` are tensors
    that a checkpoint may lack, `free` the axes whose length nothing but the tensor itself says. `k` and `int8_cosine`
    loosen the limits for a network that is sensitive itself, which the case measures and says.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    files: Mapping[str, Any]
    pooling: str
    normalize: bool = False
    prefix: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    tower: Callable[[nn.Module], nn.Module] = lambda model: model.base_model
    final: Callable[[nn.Module, Any], tuple[torch.Tensor, torch.Tensor | None]] = lambda _, result: (
        result.last_hidden_state,
        None,
    )
    modality: Modality | None = None
    lengths: tuple[int, ...] | None = None
    blocks: Callable[[nn.Module], Sequence[nn.Module]] | None = None
    optional: Collection[str] = ()
    free: Mapping[str, Collection[int]] = field(default_factory=dict)
    k: float = K
    int8_cosine: float = INT8_COSINE


class Subject:
    """A case that was built, saved and loaded, with everything that several checks need computed once."""

    def __init__(self, case: Case, directory: Path) -> None:
        self.case, self.directory = case, directory
        self.upstream = randomise(case.build().eval())
        self.upstream.save_pretrained(directory)
        write_files(directory, case.files)
        self.loaded = self.load()
        self.batch = example_batch(self)
        tokens = not isinstance(self.loaded.backbone, ConvolutionalBackbone)
        self.outputs = every_output(self.loaded.backbone.depth, tokens=tokens)

    @cached_property
    def exact(self) -> Vectors:
        """The upstream forward in float64."""
        return upstream_vectors(self, copy.deepcopy(self.upstream).double())

    @cached_property
    def framework(self) -> Vectors:
        """The upstream forward in float32."""
        return upstream_vectors(self, self.upstream)

    @cached_property
    def ours(self) -> Vectors:
        return self.loaded.backbone(self.batch, self.outputs)

    def load(self, precision: str = "fp32") -> models.LoadedModel:
        """The same directory, packed for `precision`."""
        loaded = models.load(self.directory, modality=self.case.modality)
        loaded.backbone.prepare(precision)
        return loaded

    @cached_property
    def tensors(self) -> Tensors:
        """The checkpoint as upstream wrote it."""
        return load_file(self.directory / "model.safetensors")

    @contextmanager
    def with_tensors(self, tensors: Tensors) -> Iterator[Path]:
        """The directory with another checkpoint in it, for as long as the context lasts."""
        path = self.directory / "model.safetensors"
        save_file(tensors, path)
        try:
            yield self.directory
        finally:
            save_file(self.tensors, path)


def load_ready(directory: Path, precision: str = "fp32") -> models.LoadedModel:
    """Load a directory and pack its weights."""
    loaded = models.load(directory)
    loaded.backbone.prepare(precision)
    return loaded


def write_files(directory: Path, files: Mapping[str, Any]) -> None:
    """Write text as it is and anything else as JSON."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter values that matter: no unit scales, no zero biases, tokens or positions."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(1.5 * noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.3 * noise + (0 if name.endswith("bias") else 1))
        for name, buffer in model.named_buffers():  # statistics of batch normalisation
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model


def every_output(depth: int, *, tokens: bool = True) -> list[Output]:
    """All poolings of the final layer, those of single `tokens` too, and each layer."""
    poolings: list[Pooling] = ["cls", "mean", "last"] if tokens else ["mean"]
    final = [Output("pooled", None, "model"), *(Output(p, None, p) for p in poolings)]
    return [*final, *(Output(f"layer:{k}", k, "model") for k in range(1, depth + 1))]


def text_batch(texts: list[torch.Tensor]) -> TextBatch:
    """Pack token ids (T,) of several texts."""
    ends = torch.tensor([0, *(len(ids) for ids in texts)]).cumsum(0)
    return TextBatch(torch.cat(texts).int(), ends.int())


def embed_texts(loaded: models.LoadedModel, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """The model's own vectors (N, D) of texts, 32 of similar length at a time."""
    inputs = TextPreprocessor(loaded.spec, loaded.directory)(texts)
    order = np.argsort([i.num_tokens for i in inputs])
    vectors = np.empty((len(texts), loaded.backbone.width), np.float32)
    for rows in np.split(order, range(32, len(order), 32)):
        batch = text_batch([torch.from_numpy(inputs[row].ids) for row in rows])
        vectors[rows] = loaded.backbone(batch, [Output("pooled", None, "model")])["pooled"].numpy()
    return vectors


def split(batch: Batch) -> list[torch.Tensor]:
    """The items of a batch: token ids (T,) or pixels (height, width, 3)."""
    if isinstance(batch, ImageBatch | MixedBatch):
        return list(batch.pixels if isinstance(batch, ImageBatch) else batch.images)
    return list(batch.ids.split(batch.cu_seqlens.diff().tolist()))


def join(items: list[torch.Tensor]) -> Batch:
    """The inverse of :func:`split`."""
    if any(item.shape != items[0].shape for item in items) and items[0].dim() == 3:
        return MixedBatch(tuple(items))
    return ImageBatch(torch.stack(items)) if items[0].dim() == 3 else text_batch(items)


def to_cuda(batch: Batch) -> Batch:
    """The same on a GPU."""
    if isinstance(batch, TextBatch):
        return TextBatch(batch.ids.cuda(), batch.cu_seqlens.cuda())
    return join([item.cuda() for item in split(batch)])


def example_batch(subject: Subject) -> Batch:
    """Seven items: random pixels, or random ids of lengths from one token to as many as there are positions."""
    generator = torch.Generator().manual_seed(1)
    spec, config = subject.loaded.spec, getattr(subject.upstream.config, "text_config", subject.upstream.config)
    if isinstance(spec, ImageSpec) and spec.size is None:
        _, side, most = spec.resize
        grids = [(1, 1), (4, 4), (2, most // 2), (most, 1), (3, 4), (1, 5), (4, 4)]
        return MixedBatch(
            tuple(
                torch.randint(0, 256, (rows * side, columns * side, 3), dtype=torch.uint8, generator=generator)
                for rows, columns in grids
            )
        )
    if isinstance(spec, ImageSpec):
        return ImageBatch(torch.randint(0, 256, (7, *spec.size, 3), dtype=torch.uint8, generator=generator))
    lengths = subject.case.lengths or (5, 1, spec.max_tokens, 2, 17, 9, 16)
    texts = [torch.randint(0, config.vocab_size - 1, (n,), generator=generator) for n in lengths]
    for ids in texts:
        ids[-1] = config.vocab_size - 1
    return text_batch(texts)


def upstream_vectors(subject: Subject, model: nn.Module) -> Vectors:
    """Run the padded, batched upstream model and pool its tokens as the outputs ask; ``dense`` are all of them."""
    case, body = subject.case, subject.case.tower(model)
    depth = subject.loaded.backbone.depth
    lists = (m for m in body.modules() if isinstance(m, nn.ModuleList) and len(m) == depth)
    blocks = case.blocks(body) if case.blocks else next(lists, ())
    layers: dict[int | None, torch.Tensor] = {}
    hooks = [block.register_forward_hook(_keep(layers, k)) for k, block in enumerate(blocks, start=1)]
    with torch.no_grad():
        result = body(**_inputs(subject, next(body.parameters()).dtype), **case.options)
        layers[None], own = case.final(model, result)
    for hook in hooks:
        hook.remove()
    if layers[None].dim() == 4:  # feature maps (B, C, height, width): every pixel is a token
        layers = {number: hidden.flatten(2).transpose(1, 2) for number, hidden in layers.items()}
    vectors = {}
    for output in subject.outputs:
        pooling = case.pooling if output.pooling == "model" else output.pooling
        hidden = layers[output.layer]
        lengths = _lengths(subject, hidden.shape[1])
        rows = [_pool(row[:n], pooling, case.prefix) for row, n in zip(hidden, lengths, strict=True)]
        if isinstance(subject.loaded.backbone, ConvolutionalBackbone) and output.name == "pooled":
            rows = list(result.pooler_output.flatten(1))
        vectors[output.name] = F.normalize(torch.stack(rows)) if case.normalize else torch.stack(rows)
    final = layers[None]
    lengths = _lengths(subject, final.shape[1])
    vectors["dense"] = torch.cat([row[case.prefix : n] for row, n in zip(final, lengths, strict=True)])
    return vectors if own is None else {**vectors, "pooled": own}


def _lengths(subject: Subject, tokens: int) -> list[int]:
    """How many of its tokens belong to each item."""
    batch, spec = subject.batch, subject.loaded.spec
    if isinstance(batch, MixedBatch):
        return [image.shape[0] * image.shape[1] // spec.resize[1] ** 2 for image in batch.images]
    return batch.cu_seqlens.diff().tolist() if isinstance(batch, TextBatch) else [tokens] * len(batch)


def _keep(layers: dict[int | None, torch.Tensor], number: int) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, result: Any) -> None:
        layers[number] = result[0] if isinstance(result, tuple) else result

    return hook


def _inputs(subject: Subject, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    batch, spec = subject.batch, subject.loaded.spec
    if isinstance(batch, ImageBatch):
        values = batch.pixels.to(dtype) * spec.rescale
        values = (values - torch.tensor(spec.mean, dtype=dtype)) / torch.tensor(spec.std, dtype=dtype)
        return {"pixel_values": values.permute(0, 3, 1, 2)}
    if isinstance(batch, MixedBatch):
        return _patches(batch, spec, dtype)
    texts = [ids.long() for ids in split(batch)]
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask}


def _patches(batch: MixedBatch, spec: ImageSpec, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Images cut into patches, and filled up, as the processor of SigLIP 2 does."""
    side, rows = spec.resize[1], []
    mean, std = (torch.tensor(values, dtype=dtype) for values in (spec.mean, spec.std))
    for image in batch.images:
        values = (image.to(dtype) * spec.rescale - mean) / std
        cut = values.unflatten(1, (-1, side)).unflatten(0, (-1, side)).transpose(1, 2)
        rows.append(cut.reshape(-1, 3 * side**2))
    mask = [torch.ones(len(row), dtype=torch.int32) for row in rows]
    return {
        "pixel_values": nn.utils.rnn.pad_sequence(rows, batch_first=True),
        "pixel_attention_mask": nn.utils.rnn.pad_sequence(mask, batch_first=True),
        "spatial_shapes": torch.tensor([[image.shape[0] // side, image.shape[1] // side] for image in batch.images]),
    }


def _pool(tokens: torch.Tensor, pooling: str, prefix: int) -> torch.Tensor:
    return tokens[prefix:].mean(0) if pooling == "mean" else tokens[0 if pooling == "cls" else -1]


def largest_error(vectors: Vectors, exact: Vectors, name: str) -> float:
    """Largest absolute difference of one output from the float64 one."""
    return float((vectors[name].double() - exact[name]).abs().max())


def allowed_error(subject: Subject, name: str) -> float:
    """What the k rule grants to one output."""
    ulp = torch.finfo(torch.float32).eps * float(subject.exact[name].abs().max())
    return max(subject.case.k * largest_error(subject.framework, subject.exact, name), FLOOR_ULPS * ulp)


def equal(a: Vectors, b: Vectors) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch with `count` intra-op threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
