"""Queries run in the extractor that made an index or a head, rebuilt from what the store says of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coldpress
from coldpress import EmbeddingStore, FingerprintMismatch, VectorIndex

Cli = Callable[..., Any]

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "cat", "red"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("photos")
    for seed in range(12):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(directory / f"{seed}.png")
    rows = [f"{seed}.png,{'even' if seed % 2 == 0 else 'odd'}" for seed in range(12)]
    (directory / "labels.csv").write_text("\n".join(["key,label", *rows]))
    return directory


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("captions") / "captions.txt"
    file.write_text("a dog\na red cat\nred\ndog dog\n")
    return file


def save_clip(directory: Path, seed: int) -> Path:
    """CLIP with random weights of two small towers."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(seed)
    vision = SIZES | {"image_size": 32, "patch_size": 8, "projection_dim": 24}
    text = SIZES | {"vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 3, "bos_token_id": 2}
    text |= {"num_hidden_layers": 3}
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=24)).save_pretrained(directory)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(WORDS))
    return directory


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"), seed=0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A ViT as a single file, and a directory with all of the model but that."""
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("vit")
    ViTModel(ViTConfig(**SIZES, image_size=32, patch_size=8), add_pooling_layer=False).save_pretrained(directory)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(directory)
    file = tmp_path_factory.mktemp("file") / "weights.safetensors"
    shutil.move(directory / "model.safetensors", file)
    return file, directory


def made(cli: Cli, source: Path, tmp_path: Path, *options: object) -> tuple[Path, Path]:
    """A store of a source, and an index of it."""
    store, index = tmp_path / "made.store", tmp_path / "made.index"
    assert cli("embed", source, "--out", store, *options).code == 0
    assert cli("index", store, "--out", index).code == 0
    return store, index


def best(cli: Cli, index: Path, *query: object) -> str:
    done = cli("search", index, *query, "-k", 1, "--json")
    assert done.code == 0, done.err
    return str(done.json["hits"][0]["key"])


def test_a_single_file_with_its_architecture_is_found_again(
    cli: Cli, weights: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    file, arch = weights
    store, index = made(cli, photos, tmp_path, "--model", file, "--arch", arch)
    assert best(cli, index, "--image", photos / "7.png") == "7.png"
    for made_of in (store, index):
        assert f"(image, arch {arch})" in "".join(cli("info", made_of).out.split("\n")).replace("  ", "")
        assert cli("info", made_of, "--json").json["description"]["arch"] == str(arch)
    head = tmp_path / "head"
    assert cli("probe", store, "--labels", photos / "labels.csv", "--out", head).code == 0
    assert cli("predict", head, photos, "--json").json["rows"] == 12
    moved, elsewhere = tmp_path / "moved.safetensors", tmp_path / "elsewhere"
    shutil.copy(file, moved)
    shutil.copytree(arch, elsewhere)
    overrides = ("--model", moved, "--arch", elsewhere)
    assert best(cli, index, "--image", photos / "7.png", *overrides) == "7.png"
    assert cli("predict", head, photos, *overrides, "--json").json["rows"] == 12


def test_a_description_makes_the_same_extractor(weights: tuple[Path, Path], photos: Path, tmp_path: Path) -> None:
    file, arch = weights
    extractor = coldpress.Extractor(file, arch=str(arch), output="cls,layer:1", exif=True, precision="int16")
    store = extractor.embed_to(tmp_path / "store", photos)
    again = coldpress.Extractor(**store.description)
    assert again.fingerprint.digest == store.fingerprint.digest


def test_texts_find_images_of_the_same_checkpoint(cli: Cli, clip: Path, photos: Path, tmp_path: Path) -> None:
    store, index = made(cli, photos, tmp_path, "--model", clip, "--precision", "int8")
    texts = coldpress.Extractor(clip, modality="text")
    opened = VectorIndex.open(index)
    opened.check(texts.fingerprint)
    (keys,) = opened.search(texts.embed(["a red dog"]), k=1)[1].tolist()
    assert best(cli, index, "--text", "a red dog") == keys[0]
    assert best(cli, index, "--image", photos / "3.png") == "3.png"
    stored = np.asarray(EmbeddingStore(store).embeddings[:], np.float32)
    cosines = (stored / np.linalg.norm(stored, axis=1, keepdims=True)) @ texts.embed(["a red dog"])[0]
    assert list(EmbeddingStore(store).keys)[int(cosines.argmax())] == keys[0]


def test_images_find_texts_of_the_same_checkpoint(
    cli: Cli, clip: Path, captions: Path, photos: Path, tmp_path: Path
) -> None:
    _, index = made(cli, captions, tmp_path, "--model", clip, "--prompt", "a ")
    opened = VectorIndex.open(index)
    images = coldpress.Extractor(clip)
    opened.check(images.fingerprint)
    expected = opened.search(images.embed([photos / "5.png"]), k=1)[1][0, 0]
    assert best(cli, index, "--image", photos / "5.png") == expected


def test_other_spaces_stay_apart(cli: Cli, clip: Path, photos: Path, captions: Path, tmp_path: Path) -> None:
    """Another checkpoint, another output, the same tower in another precision, stores of both towers."""
    other = save_clip(tmp_path / "other", seed=1)
    store, index = made(cli, photos, tmp_path, "--model", clip, "--output", "pooled,cls")
    opened = VectorIndex.open(index)
    for extractor in (
        coldpress.Extractor(other, modality="text"),
        coldpress.Extractor(clip, modality="text", output="cls"),
        coldpress.Extractor(clip, output="pooled,cls", precision="int16"),
    ):
        with pytest.raises(FingerprintMismatch):
            opened.check(extractor.fingerprint)
    done = cli("search", index, "--text", "a dog", "--model", other)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "different spaces" in done.err
    done = cli("index", store, "--output", "cls", "--out", tmp_path / "cls.index")
    done = cli("search", tmp_path / "cls.index", "--text", "a dog")
    assert done.code == 2
    assert "(cls): search by --image or --key" in " ".join(done.err.split())
    with pytest.raises(FingerprintMismatch):
        coldpress.Extractor(clip, modality="text").run(store, captions)


def test_a_tower_cut_short_takes_queries_of_its_own_kind_alone(
    cli: Cli, clip: Path, photos: Path, tmp_path: Path
) -> None:
    _, index = made(cli, photos, tmp_path, "--model", clip, "--layers", 1)
    assert best(cli, index, "--image", photos / "3.png") == "3.png"
    done = cli("search", index, "--text", "a dog")
    assert done.code == 2
    message = " ".join(done.err.replace("│", "").split())  # without the frame
    assert "(--layers 1) embeds images, and no other tower of it ends in this space (pooled)" in message
    assert "search by --image or --key" in message
    with pytest.raises(FingerprintMismatch):
        VectorIndex.open(index).check(coldpress.Extractor(clip, modality="text").fingerprint)


def test_all_layers_of_one_tower_do_not_cut_the_other(cli: Cli, clip: Path, photos: Path, tmp_path: Path) -> None:
    _, index = made(cli, photos, tmp_path, "--model", clip, "--layers", 2)  # the text tower has three
    texts = coldpress.Extractor(clip, modality="text")
    assert (
        best(cli, index, "--text", "a red dog") == VectorIndex.open(index).search(texts.embed(["a red dog"]))[1][0, 0]
    )


def test_a_tower_alone_shares_no_space(clip: Path, tmp_path: Path) -> None:
    from transformers import CLIPVisionModelWithProjection

    whole = coldpress.Extractor(clip).fingerprint
    CLIPVisionModelWithProjection.from_pretrained(clip).save_pretrained(tmp_path)
    shutil.copy(clip / "preprocessor_config.json", tmp_path)
    alone = coldpress.Extractor(tmp_path).fingerprint
    assert "space" not in alone.fields
    assert alone.digest == whole.digest
    assert json.loads(json.dumps(whole.fields)).keys() - alone.fields.keys() == {"space"}


def test_info_describes_a_tower_and_a_single_file(cli: Cli, clip: Path, weights: tuple[Path, Path]) -> None:
    (clip / "README.md").write_text("---\nlicense: mit\n---\nTrained on \x1b[31m nothing.\n")
    shown, data = cli("info", clip, "--modality", "text").out, cli("info", clip, "--modality", "text", "--json").json
    assert "texts; one space with its image tower (--modality image)" in shown
    assert "vectors of width 24; layers and tokens 32" in shown
    assert "mit" in shown
    assert "\x1b" not in shown
    assert (data["modality"], data["dim"], data["width"], data["card"]["license"]) == ("text", 24, 32, "mit")
    file, arch = weights
    assert cli("info", file, "--arch", arch, "--json").json["family"] == "vit"
    assert cli("info", "--modality", "text").code == 2


def test_frozen_features_take_a_tower_and_a_single_file(clip: Path, weights: tuple[Path, Path]) -> None:
    from sklearn.base import clone

    from coldpress.sklearn import FrozenFeatures

    texts = clone(FrozenFeatures(clip, modality="text", precision="fp32"))
    assert texts.fit(["a dog"]).transform(["a dog", "red"]).shape == (2, 24)
    assert texts.modality_ == "text"
    file, arch = weights
    photo = np.zeros((32, 32, 3), np.uint8)
    assert FrozenFeatures(file, arch=str(arch)).fit([photo]).transform([photo]).shape == (1, 32)


def test_a_description_of_a_later_version_is_refused(cli: Cli, clip: Path, photos: Path, tmp_path: Path) -> None:
    _, index = made(cli, photos, tmp_path, "--model", clip)
    manifest = json.loads((index / "index.json").read_text())
    manifest["description"]["whitening"] = True
    (index / "index.json").write_text(json.dumps(manifest))
    done = cli("search", index, "--image", photos / "1.png")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "described by whitening, which this coldpress does not know" in done.err
