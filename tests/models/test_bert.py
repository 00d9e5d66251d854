"""BERT: tiny cases for the conformance suite, and the layouts in which such models are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance import Case, embed_texts, load_ready, randomise, write_files
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification, BertModel

from coldpress.errors import ModelError

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *("##" + c for c in "aeiou")]
TOKENIZER = {"vocab.txt": "\n".join(VOCABULARY)}
TEXTS = ["a b c", "", "ba ca", "q", "x y z " * 20, "e", "ha he"]


def config(activation: str = "gelu", width: int = 24, heads: int = 3) -> BertConfig:
    return BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=width, num_hidden_layers=2, num_attention_heads=heads,
        intermediate_size=40, max_position_embeddings=33, hidden_act=activation,
    )  # fmt: skip


def sentence_layout(pooling: str, *, normalize: bool) -> dict[str, Any]:
    """The files that sentence-transformers puts beside a model."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    paths = dict(zip(kinds, ["", "1_Pooling", "2_Normalize"], strict=False))
    mode = {"cls": "cls_token", "mean": "mean_tokens", "last": "lasttoken"}[pooling]
    return TOKENIZER | {
        "modules.json": [{"type": f"sentence_transformers.models.{kind}", "path": paths[kind]} for kind in kinds],
        "1_Pooling/config.json": {"word_embedding_dimension": 24, f"pooling_mode_{mode}": True},
        "sentence_bert_config.json": {"max_seq_length": 20, "do_lower_case": False},
    }


CASES = [
    Case("gelu", "bert", lambda: BertModel(config()), TOKENIZER, "mean"),
    Case("panels", "bert", lambda: BertModel(config(width=64, heads=2)), TOKENIZER, "mean"),  # fused in int8
    Case("relu", "bert", lambda: BertModel(config("relu")), TOKENIZER, "mean"),
    Case("gelu_new", "bert", lambda: BertModel(config("gelu_new")), TOKENIZER, "mean"),
    Case("classifier", "bert", lambda: BertForSequenceClassification(config()), TOKENIZER, "mean"),
    Case("answers", "bert", lambda: BertForQuestionAnswering(config()), TOKENIZER, "mean"),
    Case("cls", "bert", lambda: BertModel(config()), sentence_layout("cls", normalize=False), "cls"),
    Case("last", "bert", lambda: BertModel(config()), sentence_layout("last", normalize=False), "last"),
    Case("unit", "bert", lambda: BertModel(config()), sentence_layout("mean", normalize=True), "mean", normalize=True),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A tiny BERT in safetensors with a vocabulary and nothing else."""
    randomise(BertModel(config())).save_pretrained(tmp_path)
    write_files(tmp_path, TOKENIZER)
    return tmp_path


@pytest.fixture
def vectors(directory: Path) -> np.ndarray:
    return embed_texts(load_ready(directory), TEXTS)


def test_a_vocabulary_is_tokenizer_enough(directory: Path, vectors: np.ndarray) -> None:
    assert vectors.shape == (len(TEXTS), 24)
    assert load_ready(directory).spec.max_tokens == 33


def test_lower_casing_of_a_bare_vocabulary_is_part_of_the_spec(directory: Path) -> None:
    before = load_ready(directory).spec
    write_files(directory, {"tokenizer_config.json": {"do_lower_case": False}})
    assert load_ready(directory).spec != before


def test_shards_are_joined(directory: Path, vectors: np.ndarray) -> None:
    randomise(BertModel(config())).save_pretrained(directory / "sharded", max_shard_size="10KB")
    write_files(directory / "sharded", TOKENIZER)
    assert len(list((directory / "sharded").glob("*.safetensors"))) > 1
    assert np.array_equal(embed_texts(load_ready(directory / "sharded"), TEXTS), vectors)


def test_gamma_and_beta_are_weight_and_bias(directory: Path, vectors: np.ndarray) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for n, t in tensors.items()
    }
    assert old.keys() != tensors.keys()
    save_file(old, path)
    assert np.array_equal(embed_texts(load_ready(directory), TEXTS), vectors)


def test_half_precision_checkpoints_are_widened(directory: Path) -> None:
    path = directory / "model.safetensors"
    halves = {name: tensor.half() for name, tensor in load_file(path).items()}
    save_file(halves, path)
    narrow = embed_texts(load_ready(directory), TEXTS)
    save_file({name: tensor.float() for name, tensor in halves.items()}, path)
    assert np.array_equal(embed_texts(load_ready(directory), TEXTS), narrow)


def test_a_pickle_of_tensors_is_accepted(directory: Path, vectors: np.ndarray) -> None:
    path = directory / "model.safetensors"
    torch.save(load_file(path), directory / "pytorch_model.bin")
    path.unlink()
    assert np.array_equal(embed_texts(load_ready(directory), TEXTS), vectors)


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def test_a_pickle_with_code_is_refused_and_not_run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directory / "model.safetensors"
    torch.save(load_file(path) | {"extra": Malicious()}, directory / "pytorch_model.bin")
    path.unlink()
    monkeypatch.chdir(directory)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is refused.*safetensors"):
        load_ready(directory)
    assert not Path("ran").exists()


def test_a_pickle_of_something_else_is_refused(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    torch.save([torch.zeros(3)], directory / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds a list, expected a dict"):
        load_ready(directory)


@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken"])
@pytest.mark.parametrize("normalize", [False, True])
def test_directories_that_sentence_transformers_wrote(directory: Path, pooling: str, normalize: bool) -> None:
    write_files(directory, {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "model_max_length": 20}})
    transformer = Transformer(str(directory))
    modules = [transformer, Pooling(24, pooling_mode=pooling), *([Normalize()] if normalize else [])]
    upstream = SentenceTransformer(modules=modules, device="cpu")
    upstream.save(str(directory / "saved"))
    loaded = load_ready(directory / "saved")
    assert loaded.spec.max_tokens == 20
    difference = embed_texts(loaded, TEXTS) - upstream.encode(TEXTS)
    assert np.abs(difference).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "1_Pooling/config.json",
            {"pooling_mode_max_tokens": True},
            "pooling_mode_max_tokens; expected exactly one of",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "pooling_mode_weightedmean; expected exactly"),
        ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, "none; expected exactly one of"),
        ("1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": False}, "include_prompt is false"),
        ("modules.json", [{"type": "a.WordWeights", "path": "2"}], "modules.json has WordWeights"),
        ("modules.json", {"type": "a.Dense"}, "expected a list of modules with type and path"),
        ("modules.json", ["Pooling"], "expected a list of modules with type and path"),
    ],
)
def test_pooling_that_we_do_not_have_is_refused(directory: Path, name: str, content: object, message: str) -> None:
    write_files(directory, sentence_layout("mean", normalize=False) | {name: content})
    with pytest.raises(ModelError, match=message):
        load_ready(directory)


def test_relative_positions_are_refused(directory: Path) -> None:
    changed = json.loads((directory / "config.json").read_text()) | {"position_embedding_type": "relative_key"}
    write_files(directory, {"config.json": changed})
    with pytest.raises(ModelError, match="relative_key"):
        load_ready(directory)
