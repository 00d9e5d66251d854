"""Dense modules of sentence-transformers: the same vectors as there, whatever runs in front of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conformance import load_ready, randomise, write_files
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
from test_bert import TEXTS, TOKENIZER, VOCABULARY, config
from torch import nn
from transformers import BertModel, ErnieConfig, ErnieModel

import coldpress
from coldpress import models
from coldpress.errors import ModelError
from coldpress.types import Output


def ernie() -> nn.Module:
    """A network without a native family."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    return ErnieModel(ErnieConfig(vocab_size=len(VOCABULARY), max_position_embeddings=33, **sizes))


def save(
    directory: Path, build: Callable[[], nn.Module], dense: list[Dense], *, normalize: bool
) -> SentenceTransformer:
    """What sentence-transformers writes of a tiny model, with such maps behind its pooling."""
    randomise(build()).save_pretrained(directory / "inner")
    settings = {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "model_max_length": 20}}
    write_files(directory / "inner", TOKENIZER | settings)
    modules = [Transformer(str(directory / "inner")), Pooling(24, pooling_mode="mean"), *map(randomise, dense)]
    upstream = SentenceTransformer(modules=[*modules, *([Normalize()] if normalize else [])], device="cpu")
    upstream.save(str(directory / "saved"))
    return upstream


@pytest.mark.parametrize("build", [lambda: BertModel(config()), ernie], ids=["bert", "generic"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    "maps",
    [
        [(24, 16, nn.Identity(), False)],
        [(24, 40, nn.Tanh(), True)],
        [(24, 40, nn.ReLU(), True), (40, 16, nn.GELU(), True)],
    ],
    ids=["plain", "tanh", "two"],
)
def test_vectors_are_those_of_sentence_transformers(
    build: Callable[[], nn.Module], normalize: bool, maps: list[tuple[int, int, nn.Module, bool]], tmp_path: Path
) -> None:
    dense = [Dense(inputs, outputs, bias, act) for inputs, outputs, act, bias in maps]
    expected = save(tmp_path, build, dense, normalize=normalize).encode(TEXTS)
    extractor = coldpress.Extractor(tmp_path / "saved", precision="fp32")
    ours = extractor.embed(TEXTS)
    assert (extractor.dim, ours.shape) == (maps[-1][1], expected.shape)
    assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()
    assert all(np.array_equal(extractor.embed([text])[0], row) for text, row in zip(TEXTS, ours, strict=True))


def test_other_outputs_do_not_pass_through_the_maps(tmp_path: Path) -> None:
    save(tmp_path, lambda: BertModel(config()), [Dense(24, 16)], normalize=False)
    loaded, inner = load_ready(tmp_path / "saved"), load_ready(tmp_path / "inner")
    assert [loaded.backbone.dim(Output(n, k, "model")) for n, k in (("pooled", None), ("layer:1", 1))] == [16, 24]
    plain = coldpress.Extractor(tmp_path / "inner", output="mean,layer:1", precision="fp32").embed(TEXTS)
    mapped = coldpress.Extractor(tmp_path / "saved", output="mean,layer:1", precision="fp32").embed(TEXTS)
    assert np.array_equal(plain, mapped)
    assert inner.weights != loaded.weights


@pytest.mark.parametrize("precision", ["int16", "int8"])
def test_low_precision_is_close(tmp_path: Path, precision: str) -> None:
    save(tmp_path, lambda: BertModel(config()), [Dense(24, 16)], normalize=True)
    exact = coldpress.Extractor(tmp_path / "saved", precision="fp32").embed(TEXTS)
    ours = coldpress.Extractor(tmp_path / "saved", precision=precision).embed(TEXTS)
    assert (exact * ours).sum(axis=1).min() > 0.96


def test_the_maps_belong_to_the_fingerprint(tmp_path: Path) -> None:
    save(tmp_path, lambda: BertModel(config()), [Dense(24, 16)], normalize=False)
    path = tmp_path / "saved" / "2_Dense" / "model.safetensors"
    before = models.load(tmp_path / "saved")
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    assert models.load(tmp_path / "saved").weights != before.weights
    assert before.config["dense"] == [{"inputs": 24, "outputs": 16, "bias": True, "activation": "Tanh"}]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"activation_function": "torch.nn.modules.activation.Softplus"}, "activation_function 'Softplus', expected"),
        ({"in_features": 25}, "in_features 25, expected 24"),
        ({"out_features": 17}, r"2_Dense: .*linear\.weight is \(16, 24\), not \(17, 24\)"),
        ({"bias": False}, r"2_Dense: .*unexpected: linear\.bias"),
        ({"use_residual": True}, "without a residual"),
        ({"module_input_name": "token_embeddings"}, "a map of the sentence's vector"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    save(tmp_path, lambda: BertModel(config()), [Dense(24, 16)], normalize=False)
    stated = {"in_features": 24, "out_features": 16, "bias": True, "activation_function": "torch.nn.Tanh"}
    write_files(tmp_path / "saved", {"2_Dense/config.json": stated | changed})
    with pytest.raises(ModelError, match=message):
        models.load(tmp_path / "saved")


def test_modules_in_another_order_are_refused(tmp_path: Path) -> None:
    save(tmp_path, lambda: BertModel(config()), [Dense(24, 16)], normalize=True)
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "3_Normalize", "Dense": "2_Dense"}
    listed = [{"type": f"a.{kind}", "path": path} for kind, path in kinds.items()]
    write_files(tmp_path / "saved", {"modules.json": listed})
    with pytest.raises(ModelError, match="has Transformer Pooling Normalize Dense; expected"):
        models.load(tmp_path / "saved")
