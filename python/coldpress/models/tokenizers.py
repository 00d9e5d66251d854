"""The tokenizer of a model directory, from whichever files it has.

``tokenizer.json`` says everything. Older directories have a vocabulary alone, and what happens in front of it is code
in transformers: WordPiece as in BERT, byte-level BPE as in RoBERTa, BPE as in CLIP, and SentencePiece as in SigLIP are
built here, with the same ids; of a text that spells SigLIP's own ``</s>``, what follows may be cut differently.

Source: https://github.com/huggingface/transformers/tree/v5.0.0/src/transformers/models, ``tokenization_*.py`` of bert,
roberta, clip and siglip (Apache-2.0).
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
from tokenizers.models import BPE, Unigram

from coldpress.errors import ModelError
from coldpress.models.names import read_json
from coldpress.models.sentencepiece import read_sentencepiece

SETTINGS = "tokenizer_config.json"
_KINDS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("tokenizer.json",), ()),
    (("vocab.txt",), ("do_lower_case", "strip_accents", "tokenize_chinese_chars")),
    (("vocab.json", "merges.txt"), ("add_prefix_space",)),
    (("spiece.model",), ("do_lower_case", "tokenizer_class")),
)
"""The files that make up a tokenizer, the first kind that is there, and the settings that it leaves to its class."""

_CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class TokenizerFiles:
    """Where a tokenizer lies, and its settings."""

    paths: tuple[Path, ...]
    settings: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the ids depend on."""
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in self.paths))
        if self.settings:
            digest.update(json.dumps(dict(self.settings)).encode())
        return digest.hexdigest()


def find_tokenizer(directory: Path) -> TokenizerFiles | None:
    """Return the files of a model's tokenizer; None if there are none that can be used without transformers."""
    path = directory / SETTINGS
    stated = read_json(path) if path.is_file() else None
    for names, keys in _KINDS:
        if not all((directory / name).is_file() for name in names):
            continue
        settings = {} if stated is None else {key: stated.get(key) for key in keys}
        if names != ("spiece.model",) or str(settings.get("tokenizer_class")).startswith("Siglip"):
            return TokenizerFiles(tuple(directory / name for name in names), settings)
    return None


def open_tokenizer(directory: Path) -> Tokenizer:
    """Return the tokenizer of a model directory.

    Raises
    ------
    ModelError
        If it has none, or one that is damaged.
    """
    try:
        files = find_tokenizer(directory)
        if files is None:
            raise ModelError(f"{directory} has no tokenizer; expected tokenizer.json or vocab.txt")
        return _open(files)
    except ModelError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelError(f"the tokenizer of {directory} cannot be read: {error}") from error


def _open(files: TokenizerFiles) -> Tokenizer:
    first, name = files.paths[0], files.paths[0].name
    if name == "tokenizer.json":
        return Tokenizer.from_file(str(first))
    if name == "vocab.txt":
        return _wordpiece(first, files.settings)
    if name == "spiece.model":
        return _siglip(first, files.settings)
    vocabulary = json.loads(first.read_text(encoding="utf-8"))
    lines = (line.partition(" ") for line in files.paths[1].read_text(encoding="utf-8").split("\n"))
    pairs = [(left, right) for left, _, right in lines if right and left != "#version:"]
    if {"<|startoftext|>", "<|endoftext|>"} <= vocabulary.keys():
        return _clip(vocabulary, pairs)
    if {"<s>", "</s>"} <= vocabulary.keys():
        return _roberta(vocabulary, pairs, files.settings)
    raise ModelError(f"{first}: neither RoBERTa's nor CLIP's special tokens are in it; expected tokenizer.json")


def _wordpiece(vocabulary: Path, settings: Mapping[str, Any]) -> Tokenizer:
    lower, chinese = settings.get("do_lower_case"), settings.get("tokenize_chinese_chars")
    made = BertWordPieceTokenizer(
        str(vocabulary),
        lowercase=True if lower is None else lower,
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=True if chinese is None else chinese,
    )
    return Tokenizer.from_str(made.to_str())


def _clip(vocabulary: dict[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    begin, end = "<|startoftext|>", "<|endoftext|>"
    made = Tokenizer(BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=end))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    made.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return _enclosed(made, begin, end, [begin, end])


def _roberta(vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], settings: Mapping[str, Any]) -> Tokenizer:
    spaced = bool(settings.get("add_prefix_space"))
    made = Tokenizer(BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix=""))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    special = [token for token in ("<s>", "</s>", "<unk>", "<pad>", "<mask>") if token in vocabulary]
    return _enclosed(made, "<s>", "</s>", special)


def _enclosed(made: Tokenizer, begin: str, end: str, special: Sequence[str]) -> Tokenizer:
    """Keep special tokens in one piece, and put one at either end."""
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    last, first = made.token_to_id(end), made.token_to_id(begin)
    assert last is not None
    assert first is not None
    made.post_processor = processors.RobertaProcessing(
        (end, last), (begin, first), trim_offsets=False, add_prefix_space=False
    )
    return made


def _siglip(model: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """T5's SentencePiece behind lower-casing and the loss of punctuation."""
    pieces, charsmap = read_sentencepiece(model.read_bytes())
    unknown = next(i for i, (piece, _) in enumerate(pieces) if piece == "<unk>")
    made = Tokenizer(Unigram(pieces, unk_id=unknown, byte_fallback=False))
    lower = [normalizers.Lowercase()] if settings.get("do_lower_case") is not False else []
    punctuation = normalizers.Replace(Regex(f"[{_escaped(string.punctuation)}]"), "")
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    mapped = [normalizers.Precompiled(charsmap)] if charsmap else []
    steps = [*lower, punctuation, spaces, normalizers.Strip(), *mapped, normalizers.Replace(Regex(" {2,}"), " ")]
    made.normalizer = normalizers.Sequence(steps)
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    special = [AddedToken(t, special=True, normalized=False, lstrip=True, rstrip=True) for t in ("</s>", "<unk>")]
    made.add_special_tokens(special)
    made.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", made.token_to_id("</s>"))])
    return made


def _escaped(characters: str) -> str:
    """Characters for use between the brackets of a pattern."""
    return "".join(f"\\{character}" for character in characters)
