"""SigLIP: tiny cases for the conformance suite, one a tower."""

from __future__ import annotations

from typing import Any

import torch
from conformance import Case
from test_bert import VOCABULARY
from test_vit import processor
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from torch import nn
from transformers import SiglipConfig, SiglipModel, SiglipTextConfig, SiglipTextModel, SiglipVisionConfig
from transformers import SiglipVisionModel as VisionModel

SIZES: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
}  # fmt: skip
VISION = SIZES | {"image_size": 32, "patch_size": 8}
TEXT = SIZES | {
    "vocab_size": 36,
    "max_position_embeddings": 16,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 1,
}
WIDE: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 2}
TOKENIZER = {
    "tokenizer.json": Tokenizer(WordPiece({w: i for i, w in enumerate(VOCABULARY)}, unk_token="[UNK]")).to_str(),
    "tokenizer_config.json": {"pad_token": "[PAD]"},
}
BOTH = processor() | TOKENIZER


def both(vision: dict[str, Any], text: dict[str, Any]) -> nn.Module:
    return SiglipModel(SiglipConfig(vision_config=VISION | vision, text_config=TEXT | text))


def own_vector(_model: nn.Module, result: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    return result.last_hidden_state, result.pooler_output


def image(name: str, build: Any, files: Any = BOTH, **options: Any) -> Case:
    return Case(name, "siglip", build, files, "mean", options=options, final=own_vector,
                tower=lambda m: getattr(m, "vision_model", m))  # fmt: skip


def text(name: str, build: Any, files: Any = BOTH) -> Case:
    return Case(name, "siglip", build, files, "last", modality="text", lengths=(16,) * 7, final=own_vector,
                tower=lambda m: getattr(m, "text_model", m))  # fmt: skip


CASES = [
    image("image", lambda: both({}, {})),
    image("image_panels", lambda: both(WIDE, WIDE)),
    image("image_wide", lambda: both({}, {}), processor(24, 40) | TOKENIZER, interpolate_pos_encoding=True),
    image("image_alone", lambda: VisionModel(SiglipVisionConfig(**VISION)), processor()),
    image("image_no_head", lambda: VisionModel(SiglipVisionConfig(**VISION, vision_use_head=False)), processor()),
    text("text", lambda: both({}, {})),
    text("text_panels", lambda: both(WIDE, WIDE)),
    text("text_alone", lambda: SiglipTextModel(SiglipTextConfig(**TEXT, projection_size=16)), TOKENIZER),
]
