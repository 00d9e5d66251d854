"""Reads the preprocessing of a model from the model's own files; what they do not say is an error, not a guess."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coldpress.errors import ModelError
from coldpress.models.names import read_json, read_json_value
from coldpress.models.tokenizers import SETTINGS, find_tokenizer, open_tokenizer
from coldpress.ops import Pooling
from coldpress.types import ImageSpec, Resample, TextSpec

logger = logging.getLogger(__name__)

IMAGE_FILES = ("preprocessor_config.json", "processor_config.json", "open_clip_config.json")
"""Where image preprocessing is stated, the first that exists."""

_STATIC = "StaticEmbedding"
_UNKNOWN_STEPS = ("do_pad", "do_reduce_labels", "do_flip_channel_order", "rescale_offset", "include_top")
_RESAMPLE: tuple[Resample, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # PIL's numbers


def read_model_config(directory: Path, sentence: SentenceModules | None = None) -> dict[str, Any]:
    """Read ``config.json`` of Hugging Face or timm, or ``open_clip_config.json`` as model type ``open_clip``.

    A module of sentence-transformers that is no transformer needs neither; its class is the model type.

    Raises
    ------
    ModelError
        If there is none, or it has neither model type nor architecture.
    """
    path, other = directory / "config.json", directory / "open_clip_config.json"
    if other.is_file() and not (path.is_file() and "model_type" in read_json(path)):
        return read_json(other) | {"model_type": "open_clip"}
    if sentence is not None and sentence.kind == _STATIC:
        return {"model_type": _STATIC} | (read_json(path) if path.is_file() else {})
    config = read_json(path)
    if not any(isinstance(config.get(key), str) for key in ("model_type", "architecture")):
        raise ModelError(f"{path} has no model_type; expected a Hugging Face model directory")
    return config


@dataclass(frozen=True)
class SentenceModules:
    """What ``modules.json`` of sentence-transformers says beside the transformer itself.

    `transformer` is the directory of the module that reads texts, `kind` its class. `dense` are the directories of the
    linear maps between pooling and normalisation.
    """

    transformer: Path
    pooling: Pooling
    normalize: bool
    max_tokens: int | None = None
    lowercase: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    dense: tuple[Path, ...] = ()
    kind: str = "Transformer"


def read_sentence_modules(directory: Path) -> SentenceModules | None:
    """Read a sentence-transformers directory; None when it is not one.

    Raises
    ------
    ModelError
        If it has other modules than Transformer and Pooling, or StaticEmbedding, then Dense and Normalize, in this
        order, or an unknown pooling.
    """
    if not (directory / "modules.json").is_file():
        return None
    listed = [(m["type"].rsplit(".", 1)[-1], directory / m["path"]) for m in read_modules(directory / "modules.json")]
    modules = dict(listed)
    if modules.keys() == {"CLIPModel"}:  # its towers pool and project themselves
        return SentenceModules(modules["CLIPModel"], pooling="last", normalize=False)
    kinds = " ".join(kind for kind, _ in listed)
    if not re.fullmatch(rf"({_STATIC}|(Transformer)?( ?Pooling)?)( Dense)*( ?Normalize)?", kinds):
        raise ModelError(
            f"modules.json has {kinds}; expected Transformer, Pooling, Dense and Normalize in this order, "
            f"or {_STATIC} for the first two"
        )
    kind = _STATIC if _STATIC in modules else "Transformer"
    transformer = modules.get(kind, directory)
    settings = transformer / "sentence_bert_config.json"
    values = read_json(settings) if settings.is_file() else {}
    general = directory / "config_sentence_transformers.json"
    named = read_json(general) if general.is_file() else {}
    prompts, default = named.get("prompts") or {}, named.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ModelError(f"{general}: default_prompt_name {default!r}, expected one of {', '.join(prompts) or 'none'}")
    return SentenceModules(
        transformer=transformer,
        pooling=_pooling(modules["Pooling"] / "config.json") if "Pooling" in modules else "mean",
        normalize="Normalize" in modules,
        max_tokens=values.get("max_seq_length"),
        lowercase=values.get("do_lower_case", False),
        prompts=prompts,
        default_prompt=prompts.get(default, ""),
        dense=tuple(path for name, path in listed if name == "Dense"),
        kind=kind,
    )


def read_modules(path: Path) -> list[dict[str, str]]:
    """Read the list in ``modules.json``."""
    value = read_json_value(path)
    if not isinstance(value, list) or not all(isinstance(m, dict) and {"type", "path"} <= m.keys() for m in value):
        raise ModelError(f"{path}: expected a list of modules with type and path")
    return value


def _pooling(path: Path) -> Pooling:
    config = read_json(path)
    if config.get("include_prompt") is False:
        raise ModelError(
            f"{path}: include_prompt is false, expected true; a mean here is over all tokens of the prompt too"
        )
    known: dict[str, Pooling] = {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_lasttoken": "last",
    }
    asked = [name for name, value in config.items() if name.startswith("pooling_mode") and value is True]
    if isinstance(config.get("pooling_mode"), str):
        names = {"cls": "cls_token", "mean": "mean_tokens"}
        asked = [f"pooling_mode_{names.get(config['pooling_mode'], config['pooling_mode'])}"]
    if len(asked) != 1 or asked[0] not in known:
        raise ModelError(f"{path}: pooling {', '.join(asked) or 'none'}; expected exactly one of {', '.join(known)}")
    return known[asked[0]]


def read_text_spec(
    directory: Path, positions: int, sentence: SentenceModules | None, *, padded: bool = False, lowercase: bool = False
) -> TextSpec:
    """Read how a text model wants its text: tokenizer, longest input, lower case, padding."""
    tokenizer, longest = find_tokenizer(directory), positions
    if tokenizer is None:
        raise ModelError(f"{directory} has no tokenizer; expected tokenizer.json or vocab.txt")
    settings = directory / SETTINGS
    if sentence is not None and sentence.max_tokens:
        longest = min(longest, sentence.max_tokens)
    elif settings.is_file():
        longest = min(longest, int(read_json(settings).get("model_max_length", positions)))
    return TextSpec(
        tokenizer=tokenizer.digest,
        max_tokens=longest,
        prompt=sentence.default_prompt if sentence else "",
        lowercase=lowercase or (sentence is not None and sentence.lowercase),
        padding=_padding(directory) if padded else None,
    )


def _padding(directory: Path) -> int:
    """Return the id of the token that fills a text up."""
    settings = directory / SETTINGS
    stated = read_json(settings) if settings.is_file() else {}
    if (side := stated.get("padding_side", "right")) != "right":
        raise ModelError(f"{settings}: padding_side is {side!r}, expected 'right'")
    token = stated.get("pad_token")
    name = token.get("content") if isinstance(token, dict) else token
    found = open_tokenizer(directory).token_to_id(name) if isinstance(name, str) else None
    if found is None:
        raise ModelError(f"{settings}: pad_token is {name!r}, expected a token of the tokenizer")
    return int(found)


def read_image_spec(directory: Path) -> ImageSpec:
    """Read ``preprocessor_config.json`` as the slow (PIL) processors of transformers understand it.

    Its newer place is ``image_processor`` in ``processor_config.json``; OpenCLIP has ``preprocess_cfg``.

    Raises
    ------
    ModelError
        If it is missing, incomplete, or asks for a step that coldpress does not have.
    """
    path = next((directory / name for name in IMAGE_FILES if (directory / name).is_file()), directory / IMAGE_FILES[0])
    config = read_json(path)
    if path.name == "open_clip_config.json":
        return _read_open_clip(config.get("preprocess_cfg") or {}, config, path)
    config = config.get("image_processor", config)
    kind = str(config.get("feature_extractor_type", config.get("image_processor_type", "")))
    for step in _UNKNOWN_STEPS:
        if config.get(step):
            raise ModelError(f"{path}: {step} is not supported")
    if kind.startswith("Levit") or ("crop_pct" in config and not kind.startswith("ConvNext")):
        raise ModelError(f"{path}: {kind or 'a processor with crop_pct'} resizes in a way that is not supported")
    resample = config.get("resample", 2)
    if not isinstance(resample, int) or not 0 <= resample < len(_RESAMPLE):
        raise ModelError(f"{path}: resample {resample!r}, expected PIL's number 0 to {len(_RESAMPLE) - 1}")
    normalise = config.get("do_normalize", True)
    resize, crop = _resize_and_crop(config, kind, path)
    return ImageSpec(
        resize=resize,
        crop=crop,
        resample=_RESAMPLE[resample],
        rescale=config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0,
        mean=channels(config, "image_mean", path) if normalise else (0.0, 0.0, 0.0),
        std=channels(config, "image_std", path) if normalise else (1.0, 1.0, 1.0),
    )


def _read_open_clip(config: Mapping[str, Any], whole: Mapping[str, Any], path: Path) -> ImageSpec:
    """OpenCLIP: CLIP's own mean and deviation, bicubic, the short side resized and the centre cropped, if not told."""
    size = config.get("size") or whole["model_cfg"]["vision_cfg"]["image_size"]
    side = size if isinstance(size, int) else size[0]
    mode, resample = config.get("resize_mode", "shortest"), config.get("interpolation", "bicubic")
    if mode not in ("shortest", "squash") or resample not in ("bicubic", "bilinear"):
        raise ModelError(
            f"{path}: resize_mode {mode!r}, interpolation {resample!r}; expected shortest or squash, bicubic"
        )
    return ImageSpec(
        resize=("shortest_edge", side) if mode == "shortest" else ("exact", side, side),
        crop=(side, side) if mode == "shortest" else None,
        resample=resample,
        rescale=1 / 255,
        mean=channels({"mean": [0.48145466, 0.4578275, 0.40821073]} | dict(config), "mean", path),
        std=channels({"std": [0.26862954, 0.26130258, 0.27577711]} | dict(config), "std", path),
    )


def channels(config: Mapping[str, Any], key: str, path: Path) -> tuple[float, float, float]:
    """Read three numbers."""
    value = config.get(key)
    if not isinstance(value, list) or len(value) != 3:
        raise ModelError(f"{path}: {key} is {value!r}, expected three numbers")
    return (float(value[0]), float(value[1]), float(value[2]))


def _resize_and_crop(
    config: Mapping[str, Any], kind: str, path: Path
) -> tuple[tuple[Any, ...] | None, tuple[int, int] | None]:
    """Read the first two steps, `kind` being the class of the processor."""
    crops = config.get("do_center_crop", config.get("crop_size") is not None)
    crop = _crop(config, path) if crops else None
    if kind.startswith("Siglip2"):
        return ("patches", int(config.get("patch_size", 16)), int(config.get("max_num_patches", 256))), crop
    if not config.get("do_resize", True):
        return None, crop
    resize = _resize(config, kind, path)
    if not kind.startswith("ConvNext"):
        return resize, crop
    edge = int(resize[1])  # ResNet has this processor too
    if edge >= 384:
        return ("exact", edge, edge), crop
    return ("shortest_edge", int(edge / config.get("crop_pct", 224 / 256))), crop or (edge, edge)


def _resize(config: Mapping[str, Any], kind: str, path: Path) -> tuple[Any, ...]:
    size = config.get("size")
    if isinstance(size, int):  # before 2022: a plain number, a square for ViT and DeiT, the short side elsewhere
        return ("exact", size, size) if kind.startswith(("ViT", "DeiT")) else ("shortest_edge", size)
    if isinstance(size, dict) and isinstance(size.get("shortest_edge"), int) and "longest_edge" not in size:
        return ("shortest_edge", size["shortest_edge"])
    if isinstance(size, dict) and isinstance(size.get("height"), int) and isinstance(size.get("width"), int):
        return ("exact", size["height"], size["width"])
    raise ModelError(f"{path}: size is {size!r}, expected shortest_edge, or height and width")


def _crop(config: Mapping[str, Any], path: Path) -> tuple[int, int]:
    crop = config.get("crop_size")
    if isinstance(crop, int):
        return (crop, crop)
    if isinstance(crop, dict) and isinstance(crop.get("height"), int) and isinstance(crop.get("width"), int):
        return (crop["height"], crop["width"])
    raise ModelError(f"{path}: crop_size is {crop!r}, expected height and width")
