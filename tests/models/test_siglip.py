"""SigLIP: tiny cases for the conformance suite, one a tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance import Case, Subject, write_files
from PIL import Image
from test_bert import VOCABULARY
from test_vit import processor
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import (
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipTextModel,
    SiglipVisionConfig,
)
from transformers import SiglipVisionModel as VisionModel
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

import coldpress
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


def flexible(**changed: Any) -> dict[str, Any]:
    """The processor of SigLIP 2 that keeps shapes: at most 20 patches."""
    made = {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 8, "max_num_patches": 20, "resample": 2,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5]}  # fmt: skip
    return {"preprocessor_config.json": made | changed}


def both2(vision: dict[str, Any], text: dict[str, Any]) -> nn.Module:
    sizes = SIZES | {"num_patches": 16, "patch_size": 8}
    return Siglip2Model(Siglip2Config(vision_config=sizes | vision, text_config=TEXT | text))


CASES = [
    image("image_flexible", lambda: both2({}, {}), flexible() | TOKENIZER),
    image("image_flexible_panels", lambda: both2(WIDE, WIDE), flexible() | TOKENIZER),
    image("image_flexible_no_head", lambda: both2({"vision_use_head": False}, {}), flexible() | TOKENIZER),
    text("text_2", lambda: both2({}, {}), flexible() | TOKENIZER),
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


def test_photos_in_their_own_shapes_give_the_vectors_of_transformers(tmp_path: Path, shared: Path) -> None:
    """From files to vectors, beside upstream's processor and padded batch; a row depends on its photo alone."""
    model = Subject(image("x", lambda: both2({}, {}), flexible() | TOKENIZER), tmp_path).upstream
    photos = sorted((shared / "imagenet_sample").rglob("*.[jJ][pP]*"))[:40:4]
    processor = Siglip2ImageProcessorPil.from_pretrained(tmp_path)
    inputs = processor([Image.open(photo).convert("RGB") for photo in photos], return_tensors="pt")
    with torch.no_grad():
        expected = model.get_image_features(**inputs).pooler_output.numpy()
    extractor = coldpress.Extractor(tmp_path, precision="fp32")
    vectors = extractor.embed(photos)
    assert np.abs(vectors - expected).max() <= 1e-5 * np.abs(expected).max()
    assert len({tuple(shape) for shape in inputs["spatial_shapes"].tolist()}) > 3
    for photo, vector in zip(photos, vectors, strict=True):
        assert np.array_equal(extractor.embed([photo])[0], vector)


def test_an_image_in_its_own_shape_needs_the_processor_that_cuts_it(tmp_path: Path) -> None:
    Subject(image("x", lambda: both2({}, {}), flexible() | TOKENIZER), tmp_path)
    for files in (processor(), flexible(patch_size=16)):
        write_files(tmp_path, files)
        with pytest.raises(ModelError, match="expected images cut into patches of 8 pixels"):
            models.load(tmp_path)


def test_texts_of_siglip_2_are_lowered(tmp_path: Path) -> None:
    Subject(text("x", lambda: both2({}, {}), flexible() | TOKENIZER), tmp_path)
    loaded = models.load(tmp_path, modality="text")
    upper, lower = TextPreprocessor(loaded.spec, tmp_path)(["A B", "a b"])
    assert upper.ids.tolist() == lower.ids.tolist()


def test_padding_on_the_left_is_refused(tmp_path: Path) -> None:
    Subject(text("x", lambda: both({}, {})), tmp_path)
    write_files(tmp_path, {"tokenizer_config.json": {"pad_token": "[PAD]", "padding_side": "left"}})
    with pytest.raises(ModelError, match="padding_side is 'left', expected 'right'"):
        models.load(tmp_path, modality="text")
