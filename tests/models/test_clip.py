"""CLIP: tiny cases for the conformance suite, one a tower."""

from __future__ import annotations

from typing import Any

import torch
from conformance import Case
from test_bert import TOKENIZER
from test_vit import processor
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

SIZES: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "projection_dim": 16,
}  # fmt: skip
VISION = SIZES | {"image_size": 32, "patch_size": 8}
TEXT = SIZES | {
    "vocab_size": 36, "max_position_embeddings": 20, "bos_token_id": 34, "eos_token_id": 35, "pad_token_id": 0,
}  # fmt: skip
LENGTHS = (5, 1, 20, 2, 17, 9, 16)
BOTH = processor() | TOKENIZER


def both(vision: dict[str, Any], text: dict[str, Any]) -> nn.Module:
    return CLIPModel(CLIPConfig(vision_config=VISION | vision, text_config=TEXT | text, projection_dim=16))


def image_vector(model: nn.Module, result: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Upstream normalises the class token alone; our final tokens are all normalised."""
    tower = getattr(model, "vision_model", model)
    project = getattr(model, "visual_projection", nn.Identity())
    return tower.post_layernorm(result.last_hidden_state), project(result.pooler_output)


def text_vector(model: nn.Module, result: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return result.last_hidden_state, getattr(model, "text_projection", nn.Identity())(result.pooler_output)


def image(name: str, build: Any, files: Any = BOTH, **options: Any) -> Case:
    return Case(name, "clip", build, files, "cls", prefix=1, options=options, final=image_vector,
                tower=lambda m: getattr(m, "vision_model", m))  # fmt: skip


def text(name: str, build: Any, files: Any = BOTH) -> Case:
    return Case(name, "clip", build, files, "last", modality="text", lengths=LENGTHS, final=text_vector,
                tower=lambda m: getattr(m, "text_model", m))  # fmt: skip


WIDE: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 2}

CASES = [
    image("image", lambda: both({}, {})),
    image("image_panels", lambda: both(WIDE, WIDE)),
    image("image_gelu", lambda: both({"hidden_act": "gelu"}, {})),
    image("image_wide", lambda: both({}, {}), processor(24, 40) | TOKENIZER, interpolate_pos_encoding=True),
    image("image_alone", lambda: CLIPVisionModel(CLIPVisionConfig(**VISION)), processor()),
    image("image_projected", lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)), processor()),
    text("text", lambda: both({}, {})),
    text("text_panels", lambda: both(WIDE, WIDE)),
    text("text_old_eos", lambda: both({}, {"eos_token_id": 2})),
    text("text_alone", lambda: CLIPTextModel(CLIPTextConfig(**TEXT)), TOKENIZER),
    text("text_projected", lambda: CLIPTextModelWithProjection(CLIPTextConfig(**TEXT)), TOKENIZER),
]
