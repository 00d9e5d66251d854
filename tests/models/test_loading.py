"""What `load` says about a model that it cannot use: one line that names the file and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conformance import randomise, write_files
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from coldpress import models
from coldpress.errors import ModelError

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
PROCESSOR = {
    "size": {"height": 32, "width": 32},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    randomise(BertModel(BertConfig(vocab_size=30, max_position_embeddings=32, **SIZES))).save_pretrained(tmp_path)
    write_files(tmp_path, {"vocab.txt": "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])})
    return tmp_path


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    randomise(ViTModel(ViTConfig(image_size=32, patch_size=8, **SIZES))).save_pretrained(tmp_path)
    write_files(tmp_path, {"preprocessor_config.json": PROCESSOR})
    return tmp_path


def refusal(model: str | Path) -> str:
    """The message of the one error that loading ends in."""
    with pytest.raises(ModelError) as error:
        models.load(model)
    message = str(error.value)
    assert "\n" not in message
    return message


def change(directory: Path, name: str, **values: object) -> None:
    path = directory / name
    write_files(directory, {name: json.loads(path.read_text()) | values})


def without(directory: Path, name: str, *keys: str) -> None:
    content = json.loads((directory / name).read_text())
    write_files(directory, {name: {k: v for k, v in content.items() if k not in keys}})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def shard(directory: Path) -> None:
    tiny = BertModel(BertConfig(vocab_size=30, max_position_embeddings=32, **SIZES))
    tiny.save_pretrained(directory, max_shard_size="10KB")
    (directory / "model.safetensors").unlink()


def lose_a_shard(directory: Path) -> None:
    shard(directory)
    min(directory.glob("model-*.safetensors")).unlink()


def damage_the_index(directory: Path) -> None:
    shard(directory)
    write_files(directory, {"model.safetensors.index.json": {"weights": {}}})


Break = Callable[[Path], object]


@pytest.mark.parametrize(
    ("breaking", "parts"),
    [
        (lambda d: (d / "config.json").unlink(), ["config.json is missing", "complete?"]),
        (lambda d: (d / "config.json").write_text("{"), ["config.json cannot be read"]),
        (lambda d: (d / "config.json").write_text("[]"), ["config.json holds a JSON list, expected an object"]),
        (lambda d: without(d, "config.json", "model_type"), ["config.json has no model_type", "Hugging Face"]),
        (lambda d: without(d, "config.json", "hidden_size"), ["config.json has no 'hidden_size'"]),
        (lambda d: change(d, "config.json", hidden_act="maxout"), ["unknown activation 'maxout'", "gelu_new"]),
        (lambda d: change(d, "config.json", model_type="nosuch"), ["cannot load", "nosuch"]),
        (lambda d: change(d, "config.json", num_hidden_layers=3), ["missing: encoder.layer.2.", "and 11 more"]),
        (lambda d: change(d, "config.json", num_hidden_layers=1), ["unexpected: encoder.layer.1.", "and 11 more"]),
        (lambda d: change(d, "config.json", hidden_size=48), ["wrong shape", "is (24, 24), not (48, 48)"]),
        (lambda d: (d / "vocab.txt").unlink(), ["how inputs are prepared", "tokenizer.json or vocab.txt"]),
        (lambda d: (d / "model.safetensors").unlink(), ["has no weights; expected model.safetensors"]),
        (lambda d: truncate(d / "model.safetensors"), ["model.safetensors cannot be read", "complete?"]),
        (lambda d: (d / "model.safetensors").write_bytes(b""), ["model.safetensors cannot be read"]),
        (lambda d: (d / "model.safetensors").write_bytes(b"version https://git-lfs"), ["cannot be read"]),
        (lose_a_shard, ["model-00001-of-", "is missing, though model.safetensors.index.json names it"]),
        (damage_the_index, ["model.safetensors.index.json cannot be read", "weight_map"]),
    ],
)
def test_what_is_wrong_with_a_text_model_is_named(bert: Path, breaking: Break, parts: list[str]) -> None:
    breaking(bert)
    message = refusal(bert)
    for part in parts:
        assert part in message
    assert str(bert) in message or message.startswith("config.json")


@pytest.mark.parametrize(
    ("breaking", "parts"),
    [
        (lambda d: (d / "preprocessor_config.json").unlink(), ["how inputs are prepared", "preprocessor_config.json"]),
        (lambda d: without(d, "preprocessor_config.json", "image_mean"), ["image_mean is None, expected three"]),
        (lambda d: without(d, "preprocessor_config.json", "size"), ["size is None", "height and width"]),
        (lambda d: change(d, "preprocessor_config.json", resample=9), ["resample 9"]),
        (lambda d: change(d, "preprocessor_config.json", do_pad=True), ["do_pad is not supported"]),
        (lambda d: change(d, "preprocessor_config.json", size={"height": 6, "width": 32}), ["(6, 32)", "size 8"]),
        (lambda d: change(d, "preprocessor_config.json", size={"shortest_edge": 32}), ["varying size", "crop_size"]),
        (lambda d: change(d, "config.json", num_channels=1), ["num_channels 1, expected 3"]),
        (lambda d: change(d, "config.json", image_size=[32, 64]), ["image_size [32, 64], expected one number"]),
        (lambda d: change(d, "config.json", image_size=64), ["position_embeddings is (1, 17, 24), not (1, 65, 24)"]),
        (
            lambda d: change(d, "config.json", patch_size=16),
            ["projection.weight is (24, 3, 8, 8), not (24, 3, 16, 16)"],
        ),
    ],
)
def test_what_is_wrong_with_an_image_model_is_named(vit: Path, breaking: Break, parts: list[str]) -> None:
    breaking(vit)
    message = refusal(vit)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("model", ["./nothing", "/nothing/at/all", "~/nothing/here", "a/b/c"])
def test_a_path_that_does_not_exist(model: str) -> None:
    assert f"{model} does not exist; expected a model directory or a hub id" in refusal(model)


@pytest.mark.parametrize("model", ["nobody/has-this-model", "nothing"])
def test_a_hub_id_is_not_fetched_offline(model: str) -> None:
    message = refusal(model)
    assert f"'{model}' is no local directory, not in the local hub cache, and cannot be downloaded" in message


def test_a_name_that_is_no_hub_id() -> None:
    assert "neither a directory nor a hub id" in refusal("what is this?")


def test_a_file_is_no_model(bert: Path) -> None:
    assert "is a file; expected a model directory" in refusal(bert / "model.safetensors")


def test_remote_code_is_never_run(bert: Path) -> None:
    code = f"open({str(bert / 'ran')!r}, 'w')\nclass C: pass\nclass M: pass\n"
    write_files(bert, {"remote.py": code})
    change(bert, "config.json", model_type="nosuch", auto_map={"AutoConfig": "remote.C", "AutoModel": "remote.M"})
    assert "cannot load" in refusal(bert)
    assert not (bert / "ran").exists()


def test_a_damaged_tokenizer_is_named(bert: Path) -> None:
    from coldpress.preprocess.text import TextPreprocessor

    loaded = models.load(bert)
    write_files(bert, {"tokenizer.json": "{"})
    with pytest.raises(ModelError, match=r"the tokenizer of .* cannot be read"):
        TextPreprocessor(loaded.spec, bert)
