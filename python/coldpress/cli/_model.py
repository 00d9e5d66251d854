"""What a model is, for ``coldpress info``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from coldpress.cli._command import Result
from coldpress.cli._format import clip, facts, listing
from coldpress.cli._progress import loading
from coldpress.cli._things import title

if TYPE_CHECKING:
    from coldpress.models import Card, LoadedModel
    from coldpress.types import ImageSpec, Modality, Spec, TextSpec


def describe_model(name: str, modality: Modality | None = None, arch: str | None = None) -> Result:
    """A model: architecture, size, preprocessing, prompts, weights, and what its card says of licence and training."""
    with loading(name):
        from coldpress import models
        from coldpress.types import Output

        model = models.load(name, modality=modality, arch=arch)
        card = models.read_card(model.directory) if model.directory else models.Card()
    backbone = model.backbone
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    dim = backbone.dim(Output("pooled", None, "model"))
    data = {
        "kind": "model",
        "model": name,
        "family": model.family,
        "modality": backbone.modality,
        "parameters": parameters,
        "dim": dim,
        "width": backbone.width,
        "depth": backbone.depth,
        "pooling": backbone.pooling,
        "normalize": backbone.normalize,
        "precisions": list(backbone.precisions),
        "preprocessing": asdict(model.spec),
        "prompts": dict(model.prompts or {}),
        "weights": model.weights,
        "space": model.space,
        "config": dict(model.config),
        "directory": None if model.directory is None else str(model.directory),
        "card": asdict(card),
    }

    def render(console: Console) -> None:
        title(console, "model", name, f"{parameters / 1e6:.1f} M parameters")
        console.print(facts(_facts(model, dim) | _card_facts(card)))

    return Result(data, render)


def _facts(model: LoadedModel, dim: int) -> dict[str, object]:
    backbone = model.backbone
    other = "text" if backbone.modality == "image" else "image"
    towers = f"; one space with its {other} tower (--modality {other})" if model.space else ""
    end = ", scaled to unit length" if backbone.normalize else ""
    inner = f"; layers and tokens {backbone.width}" if backbone.width != dim else ""
    return {
        "family": f"{model.family} ({'native' if model.family != 'transformers' else 'runs through transformers'})",
        "takes": f"{backbone.modality}s{towers}",
        "gives": f"vectors of width {dim}{inner}, {backbone.pooling} pooling{end}",
        "layers": f"{backbone.depth} (--output layer:1 … layer:{backbone.depth})" if backbone.depth else None,
        "precisions": ", ".join(backbone.precisions),
        "preprocessing": spec_line(model.spec),
        "prompts": listing(f"{k} ({v!r})" for k, v in (model.prompts or {}).items()) or None,
        "sha256": f"{model.weights} (of the tensors)",
        "directory": model.directory if model.directory and Path(model.directory).is_dir() else None,
    }


def _card_facts(card: Card) -> dict[str, object]:
    """What the card says; nothing is made up where it is silent."""
    return {
        "licence": clip(card.license) if card.license else "not stated",
        "trained on": clip(card.training, 300) if card.training else None,
        "datasets": clip(listing(card.datasets), 200) or None,
        "languages": clip(listing(card.languages), 100) or None,
        "made from": clip(listing(card.base), 200) or None,
    }


def spec_line(spec: Spec) -> str:
    """How inputs are prepared, in words."""
    from coldpress.types import ImageSpec

    return _image_line(spec) if isinstance(spec, ImageSpec) else _text_line(spec)


def _image_line(spec: ImageSpec) -> str:
    steps = []
    if spec.resize is not None:
        kind, *sides = spec.resize
        to = " x ".join(map(str, sides))
        own = f"own shape, at most {sides[-1]} patches of {sides[0]} x {sides[0]}"
        how = {"shortest_edge": f"short side to {to}", "exact": f"resized to {to}", "patches": own}
        steps.append(f"{how[kind]} ({spec.resample})")
    if spec.crop is not None:
        steps.append(f"centre {spec.crop[0]} x {spec.crop[1]}")
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (spec.mean, spec.std))
    return ", ".join([*steps, f"mean {mean}, deviation {std}"])


def _text_line(spec: TextSpec) -> str:
    from coldpress.types import BareTextSpec

    length = "of any length" if spec.max_tokens is None else f"at most {spec.max_tokens} tokens"
    parts: list[Any] = [length, "in lower case" if spec.lowercase else None]
    if isinstance(spec, BareTextSpec):
        parts += [
            None if spec.max_chars is None else f"of the first {spec.max_chars} characters",
            "no special tokens",
            None if spec.dropped is None else "unknown ones left out",
        ]
    parts += [
        "filled up to that" if spec.padding is not None else None,
        f"prompt {spec.prompt!r}" if spec.prompt else None,
    ]
    return ", ".join([part for part in parts if part] + [f"tokenizer {spec.tokenizer[:12]}…"])
