"""Tokenizers from a vocabulary alone: the ids of transformers, whose classes say in code what the files do not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import sentencepiece
from conformance import write_files
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import CLIPTokenizer, RobertaTokenizer, SiglipTokenizer

from coldpress.errors import ModelError
from coldpress.models.sentencepiece import read_sentencepiece
from coldpress.models.specs import read_text_spec
from coldpress.models.tokenizers import find_tokenizer, open_tokenizer
from coldpress.preprocess.text import TextPreprocessor

ODD = [
    "", "  ", " lead", "trail ", "A\tB\nC", "don't   STOP", "a photo of a cat.", "...", "a...b", "~`@#$%^&*()_+-=[]{}|",
    "ünïcödé ŒÆ ﬁ ½ ① ＡＢＣ！", "日本語 テキスト", "İstanbul ΑΣ", "\u00a0nbsp\u00a0x", "emoji 😀 x",
    "soft\u00adhyphen", "zero\u200bwidth", "—dash— “quotes”", "\x00nul", "12345 3.14", "▁under▁score",
    "e\u0301 combining",
]  # fmt: skip


@pytest.fixture(scope="module")
def texts(shared: Path) -> list[str]:
    """1,500 headlines, and what trips tokenizers up."""
    lines = sorted((shared / "text" / "ag_news").glob("*.jsonl"))
    rows = [json.loads(line)["text"] for path in lines for line in path.read_text().splitlines()[:1500]]
    return ODD + rows[:1500]


def ids(directory: Path, texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in open_tokenizer(directory).encode_batch(list(texts))]


@pytest.fixture(scope="module")
def clip(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vocabulary of CLIP as its repository has it, in the two files of transformers."""
    packed = gzip.decompress((shared / "tokenizers" / "clip_bpe" / "bpe_simple_vocab_16e6.txt.gz").read_bytes())
    merges = packed.decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = list(bytes_to_unicode())
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(m.split()) for m in merges)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    directory = tmp_path_factory.mktemp("clip")
    write_files(directory, {"vocab.json": vocabulary, "merges.txt": "\n".join(["#version: 0.2", *merges, ""])})
    return directory


def bytes_to_unicode() -> list[str]:
    """The letter of each byte, those that can be printed first, as in CLIP's own tokenizer."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return [*map(chr, printed), *(chr(256 + n) for n in range(len(others)))]


def test_clip(clip: Path, texts: list[str]) -> None:
    upstream = CLIPTokenizer.from_pretrained(clip)
    texts = [*texts, "two<|endoftext|>parts", "<|startoftext|> a"]
    assert ids(clip, texts) == [upstream(text)["input_ids"] for text in texts]
    assert ids(clip, ["a photo of a cat"]) == [[49406, 320, 1125, 539, 320, 2368, 49407]]  # as published


@pytest.mark.parametrize("spaced", [False, True])
def test_roberta(texts: list[str], tmp_path: Path, spaced: bool) -> None:
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(texts, vocab_size=2000, special_tokens=special, show_progress=False)
    trained.save_model(str(tmp_path))
    settings = {"add_prefix_space": spaced, "tokenizer_class": "RobertaTokenizer"}
    write_files(tmp_path, {"tokenizer_config.json": settings})
    upstream = RobertaTokenizer.from_pretrained(tmp_path, add_prefix_space=spaced)
    texts = [*texts, "two</s>parts", "a <pad> and <unk>"]
    assert ids(tmp_path, texts) == [upstream(text)["input_ids"] for text in texts]


@pytest.fixture(scope="module")
def siglip(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SentencePiece model with SigLIP's special tokens."""
    directory = tmp_path_factory.mktemp("siglip")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(directory / "spiece"), vocab_size=1000, unk_id=2, eos_id=1,
        bos_id=-1, pad_id=0, minloglevel=2,
    )  # fmt: skip
    settings = {"tokenizer_class": "SiglipTokenizer", "pad_token": "</s>", "model_max_length": 64}
    write_files(directory, {"tokenizer_config.json": settings})
    return directory


@pytest.mark.filterwarnings("ignore:This sequence already has")
def test_siglip(siglip: Path, texts: list[str]) -> None:
    upstream = SiglipTokenizer.from_pretrained(siglip)
    assert ids(siglip, texts) == [upstream(text)["input_ids"] for text in texts]
    prepared = TextPreprocessor(read_text_spec(siglip, 64, None, padded=True), siglip)(texts)
    theirs = upstream(texts, padding="max_length", truncation=True)["input_ids"]
    assert [item.ids.tolist() for item in prepared] == theirs


def test_what_the_ids_depend_on_is_in_the_digest(clip: Path, siglip: Path, tmp_path: Path) -> None:
    files = {name: (clip / name).read_text() for name in ("vocab.json", "merges.txt")}
    digests = []
    for changed in (
        {},
        {"merges.txt": files["merges.txt"] + "x y\n"},
        {"tokenizer_config.json": {"add_prefix_space": True}},
    ):
        write_files(tmp_path, files | changed)
        found = find_tokenizer(tmp_path)
        assert found is not None
        digests.append(found.digest)
    assert len(set(digests)) == 3
    assert find_tokenizer(siglip) is not None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no tokenizer"),
        ({"vocab.json": "{"}, "has no tokenizer"),
        ({"vocab.json": "{", "merges.txt": ""}, "cannot be read"),
        ({"vocab.json": {"a": 0}, "merges.txt": ""}, "neither RoBERTa's nor CLIP's special tokens"),
        ({"spiece.model": ""}, "has no tokenizer"),
        ({"spiece.model": "\n\x05", "tokenizer_config.json": {"tokenizer_class": "SiglipTokenizer"}}, "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(files: dict[str, object], message: str, tmp_path: Path) -> None:
    write_files(tmp_path, files)
    with pytest.raises(ModelError, match=message):
        open_tokenizer(tmp_path)


def test_a_cut_model_is_noticed(siglip: Path) -> None:
    data = (siglip / "spiece.model").read_bytes()
    assert len(read_sentencepiece(data)[0]) == 1000
    for size in range(len(data) - 20, len(data)):
        with pytest.raises(ValueError, match="is the file complete"):
            read_sentencepiece(data[:size])
