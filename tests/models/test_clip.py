"""CLIP: tiny cases for the conformance suite, one a tower."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance import Case, Subject, equal, write_files
from safetensors.torch import save_file
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

import coldpress
from coldpress import models
from coldpress.cli import _options as options
from coldpress.errors import ModelError
from coldpress.types import ImageSpec

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


OPEN_CLIP: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 24,
            "patch_size": 8,
            "head_width": 8,
            "mlp_ratio": 40 / 24,
        },
        "text_cfg": {"context_length": 20, "vocab_size": 36, "width": 24, "heads": 3, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}  # fmt: skip
RENAMED = [  # transformers, OpenCLIP
    ("embeddings.class_embedding", "class_embedding"),
    ("embeddings.patch_embedding.weight", "conv1.weight"),
    ("embeddings.token_embedding.weight", "token_embedding.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("pre_layrnorm", "ln_pre"),
    ("post_layernorm", "ln_post"),
    ("final_layer_norm", "ln_final"),
    ("encoder.layers", "transformer.resblocks"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("layer_norm", "ln_"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("text_model.", ""),
    ("vision_model.", "visual."),
]


def as_open_clip(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights as OpenCLIP calls and lays them out."""
    return dict(_as_open_clip(name, tensors) for name in tensors if not re.search(r"\.[kv]_proj\.", name))


def _as_open_clip(name: str, tensors: dict[str, torch.Tensor]) -> tuple[str, torch.Tensor]:
    if name in ("text_projection.weight", "visual_projection.weight"):
        return {"t": "text_projection", "v": "visual.proj"}[name[0]], tensors[name].T.contiguous()
    parts = [name.replace("q_proj", part) for part in ("q_proj", "k_proj", "v_proj")] if ".q_proj." in name else [name]
    renamed = name.replace("self_attn.q_proj.", "attn.in_proj_")
    for theirs, new in RENAMED:
        renamed = renamed.replace(theirs, new)
    return renamed, torch.cat([tensors[part] for part in parts]) if len(parts) > 1 else tensors[name]


@pytest.fixture(scope="module", params=["image", "text"])
def towers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, Path]:
    """A tower with transformers' names, and the directory of the same model with OpenCLIP's."""
    hidden = {"vision": {"intermediate_size": 40}, "text": {"intermediate_size": 96}}
    make = image if request.param == "image" else text
    subject = Subject(make("x", lambda: both(hidden["vision"], hidden["text"])), tmp_path_factory.mktemp("hf"))
    directory = tmp_path_factory.mktemp("open_clip")
    write_files(directory, {"open_clip_config.json": OPEN_CLIP, **TOKENIZER})
    save_file(as_open_clip(subject.tensors), directory / "open_clip_model.safetensors")
    return subject, directory


def test_open_clip_checkpoints_give_the_same_vectors(towers: tuple[Subject, Path]) -> None:
    subject, directory = towers
    loaded = models.load(directory, modality=subject.loaded.backbone.modality)
    assert loaded.family == "clip"
    loaded.backbone.prepare()
    spec, batch = loaded.spec, subject.batch
    if isinstance(spec, ImageSpec):
        assert (spec.resize, spec.crop, spec.resample) == (("shortest_edge", 32), (32, 32), "bicubic")
    assert equal(loaded.backbone(batch, subject.outputs), subject.ours)


def test_what_is_wrong_with_an_open_clip_directory_is_named(towers: tuple[Subject, Path], tmp_path: Path) -> None:
    modality, tensors = towers[0].loaded.backbone.modality, as_open_clip(towers[0].tensors)
    wrong = "visual.proj" if modality == "image" else "text_projection"
    save_file(tensors | {wrong: torch.zeros(24, 17)}, tmp_path / "open_clip_model.safetensors")
    write_files(tmp_path, {"open_clip_config.json": OPEN_CLIP, **TOKENIZER})
    with pytest.raises(ModelError, match=rf"{wrong} is \(24, 17\), not \(24, 16\)"):
        models.load(tmp_path, modality=modality)
    timm = json.loads(json.dumps(OPEN_CLIP))
    timm["model_cfg"]["vision_cfg"]["timm_model_name"] = "resnet50"
    write_files(tmp_path, {"open_clip_config.json": timm})
    with pytest.raises(ModelError, match=r"open_clip_config.json has timm_model_name"):
        models.load(tmp_path, modality=modality)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model with both towers."""
    return Subject(image("x", lambda: both({}, {})), tmp_path).directory


def test_the_image_tower_is_taken_unless_texts_are_asked_for(directory: Path) -> None:
    photo = np.zeros((32, 32, 3), np.uint8)
    assert coldpress.Extractor(directory).embed([photo]).shape == (1, 16)
    assert coldpress.Extractor(directory, modality="image").embed([photo]).shape == (1, 16)
    texts = coldpress.Extractor(directory, modality="text")
    assert (texts.modality, texts.embed(["a b", "c"]).shape) == ("text", (2, 16))
    assert models.modalities(directory) == ("image", "text")


def test_a_model_for_one_kind_of_input_refuses_the_other(tmp_path: Path) -> None:
    alone = Subject(image("x", lambda: CLIPVisionModel(CLIPVisionConfig(**VISION)), processor()), tmp_path).directory
    with pytest.raises(ModelError, match="takes images, expected a model for texts"):
        models.load(alone, modality="text")


def test_commands_take_the_tower_that_the_source_is_for(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a b\nc\n")
    assert options.modality_of(str(directory), None, [str(tmp_path / "texts.txt")]) == "text"
    assert options.modality_of(str(directory), None, ["rows.csv"], "caption") == "text"
    assert options.modality_of(str(directory), None, ["photos/"]) == "image"
    assert options.modality_of(str(directory), options.ModalityChoice.TEXT, ["photos/"]) == "text"


def test_a_sentence_transformers_directory_holds_the_model_one_level_down(directory: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    shutil.copytree(directory, outer / "0_CLIPModel", ignore=shutil.ignore_patterns("outer"))
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    write_files(outer, {"modules.json": modules})
    photo = np.full((32, 32, 3), 7, np.uint8)
    inner, wrapped = (coldpress.Extractor(path, precision="fp32").embed([photo]) for path in (directory, outer))
    assert np.array_equal(inner, wrapped)
    assert models.modalities(outer) == ("image", "text")
