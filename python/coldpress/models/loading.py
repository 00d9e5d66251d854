"""`load`: from the name of a model to a backbone that is ready to run."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from coldpress.errors import ModelError
from coldpress.models.base import Backbone, LoadedModel
from coldpress.models.depth import first_blocks, is_kept
from coldpress.models.directory import find_directory, find_file
from coldpress.models.generic import from_transformers
from coldpress.models.heads import with_head
from coldpress.models.options import ImageSize, with_image_size
from coldpress.models.prompts import prompts_of
from coldpress.models.specs import (
    IMAGE_FILES,
    SentenceModules,
    read_image_spec,
    read_model_config,
    read_sentence_modules,
    read_text_spec,
)
from coldpress.models.timm_files import named_architecture, read_timm_spec
from coldpress.models.tokenizers import find_tokenizer
from coldpress.models.variant import Variant, merging
from coldpress.models.weights import assign, hash_tensors, normalise_names, read_tensors
from coldpress.ops import Pooling
from coldpress.types import ImageSpec, Modality, Spec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """The file or directory that has them, whether their hash is wanted, and what becomes of their network."""

    at: Path
    hashed: bool
    variant: Variant


@cache
def families() -> Mapping[str, ModuleType]:
    """Model type of a ``config.json`` -> the module of this package that implements it.

    A family is any module here with ``MODEL_TYPES``; nothing else needs an edit when one is added.
    """
    package = importlib.import_module("coldpress.models")
    modules = [importlib.import_module(f"coldpress.models.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    return {kind: module for module in modules for kind in getattr(module, "MODEL_TYPES", ())}


def has_towers(family: ModuleType) -> bool:
    """Whether a family has a tower for texts and one for images; it then needs other tensors for each."""
    return isinstance(family.IGNORED, Mapping)


def backbone_tensors(
    family: ModuleType, modality: Modality, tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint that the backbone is made of, their names without a task model's prefix."""
    prefixes, ignored = family.PREFIXES, family.IGNORED
    if has_towers(family):
        prefixes, ignored = prefixes[modality], ignored[modality]
    return normalise_names(tensors, prefixes, ignored)


def family_of(config: Mapping[str, Any]) -> ModuleType | None:
    """Find the family by the model type of Hugging Face, else by timm's name of the architecture.

    Raises
    ------
    ModelError
        If it has the name of an architecture, and no family knows that one.
    """
    if isinstance(config.get("model_type"), str):
        return families().get(config["model_type"])
    name, known = config["architecture"], set(families().values())
    for family in known:
        if re.fullmatch(getattr(family, "ARCHITECTURES", "-"), name):
            return family
    having = sorted(f.__name__.rsplit(".", 1)[-1] for f in known if hasattr(f, "ARCHITECTURES"))
    raise ModelError(f"the architecture {name!r} is not known here; families with timm's names: {', '.join(having)}")


def load(
    model: str | Path,
    *,
    modality: Modality | None = None,
    arch: str | None = None,
    layers: int | None = None,
    merge_tokens: int = 0,
    image_size: ImageSize | None = None,
) -> LoadedModel:
    """Load a model directory, the packaged model or a hub id, natively where its family is known.

    Parameters
    ----------
    model : directory in Hugging Face or sentence-transformers layout, ``all-MiniLM-L6-v2``, or a hub id.
        With `arch`: one ``.safetensors`` or ``.pth`` file.
    modality : ``image`` or ``text``, of a model with a tower for each; None takes the one for images.
    arch : what the weights of a single file are: an architecture by timm's name, or a directory with everything of a
        model but its weights.
    layers : load only so many blocks of a transformer, from the first on; its final norm and pooling follow them.
    merge_tokens : patches of an image that each block of a vision transformer merges into others; 0 for none.
    image_size : side of a square, or height and width, of images; ``native`` or ``native:N`` keeps their shapes, with
        N patches at most; None is what the files say.

    Raises
    ------
    ModelError
        If the directory is incomplete, its weights do not fit its configuration, or it does not take what was asked
        or has no such `layers`, cannot merge so many tokens, or take images of that size.
    MissingExtra
        If only transformers knows the architecture, and it is not installed.
    """
    return _load(model, modality, arch, Variant(layers, merge_tokens, image_size), hashed=True)


def _load(
    model: str | Path, modality: Modality | None, arch: str | None, variant: Variant, *, hashed: bool
) -> LoadedModel:
    """Load a model; without its hash where only the backbone is wanted: half the time."""
    directory = find_directory(model) if arch is None else Path(arch)
    sentence = read_sentence_modules(directory)
    source = sentence.transformer if sentence else directory
    config = (
        read_model_config(source, sentence) if arch is None or source.is_dir() else named_architecture(arch, family_of)
    )
    family = family_of(config)
    weights = Weights(source if arch is None else find_file(model), hashed, variant)
    if family is None:
        variant.refuse(f"{model} is run by transformers as a whole")
    spec = _read_spec(source, config, family, sentence, modality)
    if read_text := getattr(family, "read_text", None):
        config, spec = read_text(config, spec, source)
    loaded = (
        _load_native(family, source, config, spec, sentence, weights)
        if family
        else _load_generic(source, config, spec, sentence, hashed=hashed)
    )
    if sentence and sentence.dense:
        loaded = with_head(loaded, sentence.dense, hashed=hashed)
    loaded.backbone.eval().requires_grad_(requires_grad=False)
    prompts = prompts_of(str(model), directory, config, sentence.prompts if sentence else {})
    return replace(
        loaded,
        name=str(model),
        directory=source,
        prompts=prompts,
        reload=partial(_backbone, model, modality, arch, variant),
    )


def _backbone(model: str | Path, modality: Modality | None, arch: str | None, variant: Variant) -> Backbone:
    return _load(model, modality, arch, variant, hashed=False).backbone


def modalities(model: str | Path) -> tuple[Modality, ...]:
    """What a model takes: two of them where it has a tower for each. Nothing but its configuration is read."""
    directory = find_directory(model)
    sentence = read_sentence_modules(directory)
    source = sentence.transformer if sentence else directory
    return _modalities(source, family_of(read_model_config(source, sentence)))


def _modalities(source: Path, family: ModuleType | None) -> tuple[Modality, ...]:
    stated: Mapping[Modality, bool] = {
        "image": any((source / name).is_file() for name in IMAGE_FILES),
        "text": find_tokenizer(source) is not None,
    }
    found = tuple(kind for kind, there in stated.items() if there)
    return found if family is not None and has_towers(family) else found[:1]


def _longest_text(config: Mapping[str, Any], family: ModuleType | None) -> int:
    """Tokens that a model has positions for; a family may know better than ``max_position_embeddings``."""
    if longest := getattr(family, "longest_text", None):
        return int(longest(config))
    text = config.get("text_config") or config
    return int(text.get("max_position_embeddings", getattr(family, "POSITIONS", 512)))


def _read_spec(
    source: Path,
    config: Mapping[str, Any],
    family: ModuleType | None,
    sentence: SentenceModules | None,
    modality: Modality | None,
) -> Spec:
    named = "model_type" not in config
    found: tuple[Modality, ...] = ("image",) if named else _modalities(source, family)
    if modality is not None and found and modality not in found:
        raise ModelError(f"{source} takes {found[0]}s, expected a model for {modality}s; leave the modality out")
    if (modality or next(iter(found), None)) == "image":
        return read_timm_spec(config, source) if named else read_image_spec(source)
    if found:
        longest, lowers = _longest_text(config, family), getattr(family, "lowers", None)
        lowercase = lowers is not None and lowers(config)
        return read_text_spec(source, longest, sentence, padded=hasattr(family, "PADDED"), lowercase=lowercase)
    slow = ("vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
    if kept := next((name for name in slow if (source / name).is_file()), None):
        raise ModelError(
            f"{source} has {kept} and no tokenizer.json; write it where transformers is installed: "
            "AutoTokenizer.from_pretrained(directory).save_pretrained(directory)"
        )
    raise ModelError(
        f"{source} does not say how inputs are prepared; "
        "expected preprocessor_config.json (images), or tokenizer.json or vocab.txt (text)"
    )


def _pooling(
    sentence: SentenceModules | None, directory: Path, family: ModuleType | None = None
) -> tuple[Pooling, bool]:
    if sentence is not None:
        return sentence.pooling, sentence.normalize
    own: Pooling | None = getattr(family, "POOLING", None)
    if own is None:
        logger.warning(
            "%s has no modules.json: mean pooling without normalisation, as sentence-transformers does", directory
        )
    return own or "mean", False


def _load_native(
    family: ModuleType,
    source: Path,
    raw: Mapping[str, Any],
    spec: Spec,
    sentence: SentenceModules | None,
    weights: Weights,
) -> LoadedModel:
    modality: Modality = "image" if isinstance(spec, ImageSpec) else "text"
    if has_towers(family):
        config = family.read_config(raw, modality)
    else:
        pooling, normalize = ("cls", False) if modality == "image" else _pooling(sentence, source, family)
        config = family.read_config(raw, pooling, normalize=normalize)
    if weights.variant.image_size is not None:
        spec = with_image_size(spec, weights.variant.image_size, getattr(config, "patch", None))
    whole = config
    if weights.variant.layers is not None:
        config = first_blocks(whole, weights.variant.layers)
    cut = {} if config == whole else {"layers": weights.variant.layers}
    checkpoint = read_tensors(weights.at, partial(is_kept, config=config) if cut else None)
    tensors = backbone_tensors(family, modality, checkpoint)
    digest = hash_tensors(tensors) if weights.hashed else ""
    try:
        if sized := getattr(family, "sized", None):
            config = sized(config, tensors)
        backbone = family.build(config, spec)
        if adapt := getattr(family, "adapt", None):
            tensors = adapt(tensors, config, spec)
        assign(backbone, family.weight_map(config), tensors)
    except ModelError as error:
        raise ModelError(f"{weights.at}: {error}") from None
    merging(backbone, weights.variant.merge_tokens)
    alone = bool(cut) or not weights.hashed  # one tower cut short no longer meets the other
    space = None if alone else _shared_space(family, raw, checkpoint, {modality: digest})
    name = family.__name__.rsplit(".", 1)[-1]
    merged = {"merge_tokens": backbone.merge_tokens} if backbone.merge_tokens else {}
    described = {key: raw[key] for key in ("architecture",) if key in raw} | cut | merged | family.describe(config)
    return LoadedModel(backbone, spec, name, described, digest, str(source), space=space)


def _shared_space(
    family: ModuleType,
    raw: Mapping[str, Any],
    checkpoint: Mapping[str, torch.Tensor],
    hashes: Mapping[Modality, str],
) -> str | None:
    """Hash weights and configuration of both towers; None where a model has one, or they do not meet in one space.

    `hashes` has the weights of the tower that is known already.
    """
    if not has_towers(family) or raw["model_type"] not in family.BOTH_TOWERS:
        return None
    towers: tuple[Modality, ...] = ("image", "text")
    try:
        configs = [family.read_config(raw, tower) for tower in towers]
    except ModelError:  # the other tower is of a kind that nobody can ask here
        return None
    if not family.meet(*configs):
        return None
    parts = [hashes.get(tower) or hash_tensors(backbone_tensors(family, tower, checkpoint)) for tower in towers]
    return hashlib.sha256(json.dumps([parts, [family.describe(c) for c in configs]]).encode()).hexdigest()


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
