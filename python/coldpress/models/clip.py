"""CLIP: an image tower and a text tower into one space, in transformers and OpenCLIP checkpoints.

The vectors are ``image_embeds`` and ``text_embeds`` before their normalisation: the class token or the last token,
normalised and projected. A tower that was saved without its projection gives the normalised token.

Source: Radford et al., *CLIP* (2021), https://arxiv.org/abs/2103.00020; Cherti et al., *OpenCLIP* (2022),
https://arxiv.org/abs/2212.07143. Weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/clip/modeling_clip.py (Apache-2.0) and
https://github.com/mlfoundations/open_clip/blob/v3.2.0/src/open_clip/model.py (MIT).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.models import towers
from coldpress.models.base import WeightMap
from coldpress.models.names import activation_named, required
from coldpress.models.tensor_names import BlockNames
from coldpress.models.text_tower import TextConfig, TextNames
from coldpress.models.towers import Config
from coldpress.models.vision import VisionConfig, VisionNames, square
from coldpress.types import Modality, Spec

MODEL_TYPES = frozenset({"clip", "clip_vision_model", "clip_text_model", "open_clip"})
BOTH_TOWERS = frozenset({"clip", "open_clip"})
PREFIXES: Mapping[Modality, tuple[str, ...]] = {"image": ("vision_model.",), "text": ("text_model.", "text.")}
POSITIONS = 77
"""Of the text tower, where ``config.json`` leaves them out."""

IGNORED: Mapping[Modality, tuple[str, ...]] = {
    "image": (
        r"text_model\.", r"text_projection", r"logit_scale", r"embeddings\.position_ids",
        r"(text\.|transformer\.|token_embedding\.|positional_embedding|ln_final\.|attn_mask)",
    ),
    "text": (r"vision_model\.", r"visual", r"logit_scale", r"embeddings\.position_ids", r"attn_mask"),
}  # fmt: skip

_VISION: Mapping[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32,
}  # fmt: skip
_TEXT: Mapping[str, Any] = {
    "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 8, "max_position_embeddings": 77,
}  # fmt: skip
"""What transformers leaves out of a ``config.json`` that has these values."""

_PATCHES, _OPEN_PATCHES = "embeddings.patch_embedding", "visual.conv1"
_OPEN_VISION = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
_OPEN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "hf_tokenizer_name", "tokenizer_kwargs"}
_OPEN_BLOCKS = BlockNames(
    block="transformer.resblocks.{}",
    qkv=("attn.in_proj_",),
    out="attn.out_proj",
    attention_norm="ln_1",
    mlp_norm="ln_2",
    up="mlp.c_fc",
    down="mlp.c_proj",
)
_VISION_NAMES = VisionNames(
    blocks=towers.BLOCKS,
    patch=_PATCHES,
    special=("embeddings.class_embedding",),
    positions="embeddings.position_embedding.weight",
    norm="post_layernorm",
    stem_norm="pre_layrnorm",
    projection="visual_projection.weight",
    flat=True,
)
_OPEN_VISION_NAMES = VisionNames(
    blocks=replace(_OPEN_BLOCKS, block="visual.transformer.resblocks.{}"),
    patch=_OPEN_PATCHES,
    special=("visual.class_embedding",),
    positions="visual.positional_embedding",
    norm="visual.ln_post",
    stem_norm="visual.ln_pre",
    projection="visual.proj",
    transposed=True,
    flat=True,
)
_TEXT_NAMES = TextNames(
    blocks=towers.BLOCKS,
    words="embeddings.token_embedding.weight",
    positions="embeddings.position_embedding.weight",
    norm="final_layer_norm",
    projection="text_projection.weight",
)
_OPEN_TEXT_NAMES = TextNames(
    blocks=_OPEN_BLOCKS,
    words="token_embedding.weight",
    positions="positional_embedding",
    norm="ln_final",
    projection="text_projection",
    transposed=True,
)

build = towers.build
describe = towers.describe
meet = towers.meet


def read_config(config: Mapping[str, Any], modality: Modality) -> Config:
    """Read one tower of a Hugging Face ``config.json`` or of an ``open_clip_config.json``."""
    if config["model_type"] == "open_clip":
        return _read_open_clip(required(config, "model_cfg"), modality)
    whole = config["model_type"] == "clip"
    named = any("Projection" in name for name in config.get("architectures") or ())
    projection = int(config.get("projection_dim", 512)) if whole or named else 0
    section = config.get(f"{'vision' if modality == 'image' else 'text'}_config", {}) if whole else config
    values = {**(_VISION if modality == "image" else _TEXT), **section}
    activation, eps = activation_named(values.get("hidden_act", "quick_gelu")), values.get("layer_norm_eps", 1e-5)
    if modality == "image":
        image_size, patch = square(values)
        return VisionConfig(
            width=values["hidden_size"],
            depth=values["num_hidden_layers"],
            heads=values["num_attention_heads"],
            hidden=values["intermediate_size"],
            patch=patch,
            image_size=image_size,
            activation=activation,
            eps=eps,
            stem_norm=True,
            projection=projection,
            biasless=(_PATCHES,),
        )
    return TextConfig(
        vocabulary=values["vocab_size"],
        positions=values["max_position_embeddings"],
        width=values["hidden_size"],
        depth=values["num_hidden_layers"],
        heads=values["num_attention_heads"],
        hidden=values["intermediate_size"],
        activation=activation,
        eps=eps,
        causal=True,
        projection=projection,
    )


def _read_open_clip(config: Mapping[str, Any], modality: Modality) -> Config:
    vision, text = required(config, "vision_cfg"), required(config, "text_cfg")
    if unknown := sorted((vision.keys() - _OPEN_VISION) | (text.keys() - _OPEN_TEXT)):
        raise ModelError(f"open_clip_config.json has {', '.join(unknown)}; only plain CLIP transformers are known here")
    activation: ops.Activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    if modality == "image":
        width = vision["width"]
        return VisionConfig(
            width=width,
            depth=vision["layers"],
            heads=width // vision.get("head_width", 64),
            hidden=int(width * vision.get("mlp_ratio", 4)),
            patch=vision["patch_size"],
            image_size=vision["image_size"],
            activation=activation,
            eps=1e-5,
            stem_norm=True,
            projection=config["embed_dim"],
            layout="open_clip",
            biasless=(_OPEN_PATCHES,),
        )
    return TextConfig(
        vocabulary=text.get("vocab_size", 49408),
        positions=text.get("context_length", 77),
        width=text["width"],
        depth=text["layers"],
        heads=text["heads"],
        hidden=text["width"] * 4,
        activation=activation,
        eps=1e-5,
        causal=True,
        projection=config["embed_dim"],
        layout="open_clip",
    )


def adapt(tensors: dict[str, torch.Tensor], config: Config, spec: Spec) -> dict[str, torch.Tensor]:
    """Bring the checkpoint into our layout."""
    return towers.adapt_either(tensors, config, spec, *_names(config))


def weight_map(config: Config) -> WeightMap:
    """Where each parameter comes from, after `adapt`."""
    return towers.map_either(config, *_names(config))


def _names(config: Config) -> tuple[VisionNames, TextNames]:
    return (_OPEN_VISION_NAMES, _OPEN_TEXT_NAMES) if config.layout else (_VISION_NAMES, _TEXT_NAMES)
