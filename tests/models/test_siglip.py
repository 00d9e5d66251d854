"""SigLIP: tiny cases for the conformance suite, one a tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conformance import Case, Subject, write_files
from test_bert import VOCABULARY
from test_vit import processor
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import SiglipConfig, SiglipModel, SiglipTextConfig, SiglipTextModel, SiglipVisionConfig
from transformers import SiglipVisionModel as VisionModel

from coldpress import models
from coldpress.errors import ModelError
from coldpress.preprocess.text import TextPreprocessor

SIZES: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
}  # fmt: skip
VISION = SIZES | {"image_size": 32, "patch_size": 8}
TEXT = SIZES | {
    "vocab_size": 36, "max_position_embeddings": 16, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1,
}  # fmt: skip
WIDE: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 2}
_TOKENIZER = Tokenizer(WordPiece({w: i for i, w in enumerate(VOCABULARY)}, unk_token="[UNK]"))
_TOKENIZER.pre_tokenizer = Whitespace()
TOKENIZER = {
    "tokenizer.json": _TOKENIZER.to_str(),
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
    image("image_rest", lambda: both({"image_size": 38}, {}), processor(38, 38) | TOKENIZER),
    image("image_alone", lambda: VisionModel(SiglipVisionConfig(**VISION)), processor()),
    image("image_no_head", lambda: VisionModel(SiglipVisionConfig(**VISION, vision_use_head=False)), processor()),
    text("text", lambda: both({}, {})),
    text("text_panels", lambda: both(WIDE, WIDE)),
    text("text_alone", lambda: SiglipTextModel(SiglipTextConfig(**TEXT, projection_size=16)), TOKENIZER),
]


def test_texts_are_padded_as_in_training(tmp_path: Path) -> None:
    loaded = Subject(text("x", lambda: both({}, {})), tmp_path).loaded
    short, full = TextPreprocessor(loaded.spec, tmp_path)(["a b", "a " * 30])
    assert loaded.spec.padding == VOCABULARY.index("[PAD]")
    assert short.ids.tolist() == [VOCABULARY.index("a"), VOCABULARY.index("b"), *[0] * 14]
    assert (short.num_tokens, short.truncated, len(full.ids), full.truncated) == (2, False, 16, True)


def test_a_padding_token_is_needed(tmp_path: Path) -> None:
    Subject(text("x", lambda: both({}, {})), tmp_path)
    write_files(tmp_path, {"tokenizer_config.json": {"pad_token": "<none>"}})
    with pytest.raises(ModelError, match=r"pad_token is '<none>', expected a token of the tokenizer"):
        models.load(tmp_path, modality="text")
