"""`load`: from the name of a model to a backbone that is ready to run."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from coldpress.errors import ModelError
from coldpress.models.base import Backbone, LoadedModel
from coldpress.models.directory import find_directory
from coldpress.models.generic import from_transformers
from coldpress.models.prompts import prompts_of
from coldpress.models.specs import (
    SentenceModules,
    read_image_spec,
    read_json,
    read_sentence_modules,
    read_text_spec,
)
from coldpress.models.weights import assign, hash_tensors, normalise_names, read_tensors
from coldpress.ops import Pooling
from coldpress.types import ImageSpec, Spec

logger = logging.getLogger(__name__)


@cache
def families() -> Mapping[str, ModuleType]:
    """Model type of a ``config.json`` -> the module of this package that implements it.

    A family is any module here with ``MODEL_TYPES``; nothing else needs an edit when one is added.
    """
    package = importlib.import_module("coldpress.models")
    modules = [importlib.import_module(f"coldpress.models.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    return {kind: module for module in modules for kind in getattr(module, "MODEL_TYPES", ())}


def load(model: str | Path) -> LoadedModel:
    """Load a model directory, the packaged model or a hub id, natively where its family is known.

    Parameters
    ----------
    model : directory in Hugging Face or sentence-transformers layout, ``all-MiniLM-L6-v2``, or a hub id.

    Raises
    ------
    ModelError
        If the directory is incomplete, or its weights do not fit its configuration.
    MissingExtra
        If only transformers knows the architecture, and it is not installed.
    """
    return _load(model, hashed=True)


def _load(model: str | Path, *, hashed: bool) -> LoadedModel:
    """Load a model; without its hash where only the backbone is wanted: half the time."""
    directory = find_directory(model)
    sentence = read_sentence_modules(directory)
    source = sentence.transformer if sentence else directory
    config = read_json(source / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ModelError(f"{source / 'config.json'} has no model_type; expected a Hugging Face model directory")
    family = families().get(kind)
    spec = _read_spec(source, config, family, sentence)
    loaded = (
        _load_native(family, source, config, spec, sentence, hashed=hashed)
        if family
        else _load_generic(source, config, spec, sentence, hashed=hashed)
    )
    loaded.backbone.eval().requires_grad_(requires_grad=False)
    prompts = prompts_of(str(model), directory, config, sentence.prompts if sentence else {})
    return replace(loaded, name=str(model), directory=source, prompts=prompts, reload=partial(_backbone, model))


def _backbone(model: str | Path) -> Backbone:
    return _load(model, hashed=False).backbone


def _read_spec(
    source: Path, config: Mapping[str, Any], family: ModuleType | None, sentence: SentenceModules | None
) -> Spec:
    if (source / "preprocessor_config.json").is_file():
        return read_image_spec(source)
    if any((source / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        longest_text = getattr(family, "longest_text", None)
        positions = longest_text(config) if longest_text else int(config.get("max_position_embeddings", 512))
        return read_text_spec(source, positions, sentence)
    raise ModelError(
        f"{source} does not say how inputs are prepared; "
        "expected preprocessor_config.json (images), or tokenizer.json or vocab.txt (text)"
    )


def _pooling(sentence: SentenceModules | None, directory: Path) -> tuple[Pooling, bool]:
    if sentence is None:
        logger.warning(
            "%s has no modules.json: mean pooling without normalisation, as sentence-transformers does", directory
        )
        return "mean", False
    return sentence.pooling, sentence.normalize


def _load_native(
    family: ModuleType,
    source: Path,
    raw: Mapping[str, Any],
    spec: Spec,
    sentence: SentenceModules | None,
    *,
    hashed: bool,
) -> LoadedModel:
    pooling, normalize = ("cls", False) if isinstance(spec, ImageSpec) else _pooling(sentence, source)
    config = family.read_config(raw, pooling, normalize=normalize)
    tensors = normalise_names(read_tensors(source), family.PREFIXES, family.IGNORED)
    weights = hash_tensors(tensors) if hashed else ""
    backbone = family.build(config, spec)
    try:
        if adapt := getattr(family, "adapt", None):
            tensors = adapt(tensors, config, spec)
        assign(backbone, family.weight_map(config), tensors)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from None
    name = family.__name__.rsplit(".", 1)[-1]
    return LoadedModel(backbone, spec, name, family.describe(config), weights, str(source))


def _load_generic(
    source: Path, config: Mapping[str, Any], spec: Spec, sentence: SentenceModules | None, *, hashed: bool
) -> LoadedModel:
    pooling, normalize = (None, False) if isinstance(spec, ImageSpec) else _pooling(sentence, source)
    backbone = from_transformers(source, spec, pooling, normalize=normalize)
    weights = hash_tensors(backbone.state_dict()) if hashed else ""
    kept = {
        k: v for k, v in config.items() if k not in ("id2label", "label2id", "transformers_version", "_name_or_path")
    }
    kept |= {"pooling": backbone.pooling, "normalize": backbone.normalize}
    return LoadedModel(backbone, spec, "transformers", kept, weights, str(source))
