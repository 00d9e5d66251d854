"""Texts to token ids: those of the model's own tokenizer, whatever the text."""

from __future__ import annotations

import json
import shutil
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tokenizers import Tokenizer

from coldpress import models
from coldpress.preprocess.text import TextPreprocessor
from coldpress.types import BareTextSpec, Failed, TextInput, TextSpec

ODD = [
    *("", " ", "\n\t\r\n", "trailing   ", "a\x00b", "\x00", "\x1c leading control", "\ufeffbom", "a\u00a0b\u200bc"),
    *(
        "é\u0301 naïve Ünïcode",
        "日本語のテキスト",
        "🙂👩‍👩‍👧🏳️‍🌈",
        "\u202eright to left",
        "\ufffd",
        "don't e.g. 3.14 $1,000",
    ),
    *("[SEP]", "[CLS] a [MASK] b [SEP]", "[SEP] " * 400, "word " * 300 + "[SEP]", "x" * 5000, "word " * 1000),
]


@pytest.fixture(scope="module")
def spec(minilm: Path) -> TextSpec:
    return models.load(minilm).spec


@pytest.fixture(scope="module")
def preprocess(minilm: Path, spec: TextSpec) -> TextPreprocessor:
    return TextPreprocessor(spec, minilm)


@pytest.fixture(scope="module")
def texts(shared: Path) -> list[str]:
    """Real texts, short and long, and odd ones."""
    found = list(ODD)
    for name in ("ag_news/test.jsonl", "trec6/test.jsonl", "cranfield/corpus.jsonl", "sst2/dev.jsonl"):
        lines = (shared / "text" / name).read_text(encoding="utf-8").splitlines()[:200]
        found += [json.loads(line)["text"] for line in lines]
    return found


def ids_of(inputs: list[TextInput | Failed]) -> list[list[int]]:
    return [i.ids.tolist() for i in inputs]


def test_ids_are_those_of_sentence_transformers(preprocess: TextPreprocessor, minilm: Path, texts: list[str]) -> None:
    from sentence_transformers import SentenceTransformer

    upstream = SentenceTransformer(str(minilm), device="cpu")
    for text, ids in zip(texts, ids_of(preprocess(texts)), strict=True):
        assert upstream.tokenize([text])["input_ids"][0].tolist() == ids, repr(text[:60])


@pytest.mark.parametrize("longest", [2, 3, 7, 64, 256])
def test_truncation_is_the_tokenizers_own(spec: TextSpec, minilm: Path, texts: list[str], longest: int) -> None:
    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    whole = [len(e.ids) for e in tokenizer.encode_batch(texts)]
    tokenizer.enable_truncation(longest)
    inputs = TextPreprocessor(replace(spec, max_tokens=longest), minilm)(texts)
    assert ids_of(inputs) == [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    assert [i.num_tokens for i in inputs] == whole
    assert [i.truncated for i in inputs] == [count > longest for count in whole]


def test_a_bare_vocabulary_gives_the_same_ids(
    preprocess: TextPreprocessor, spec: TextSpec, minilm: Path, tmp_path: Path, texts: list[str]
) -> None:
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copyfile(minilm / name, tmp_path / name)
    assert ids_of(TextPreprocessor(spec, tmp_path)(texts)) == ids_of(preprocess(texts))


def test_a_bare_vocabulary_obeys_its_settings(spec: TextSpec, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nA", encoding="utf-8")
    assert ids_of(TextPreprocessor(spec, tmp_path)(["A"])) == [[2, 5, 3]]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    assert ids_of(TextPreprocessor(spec, tmp_path)(["A"])) == [[2, 6, 3]]


def test_the_empty_text_is_special_tokens_alone(preprocess: TextPreprocessor) -> None:
    (empty,) = preprocess([""])
    assert (empty.ids.tolist(), empty.num_tokens, empty.truncated) == ([101, 102], 2, False)
    assert empty.ids.dtype == np.int32


def test_bare_text_has_no_special_tokens_and_may_have_none_at_all(spec: TextSpec, minilm: Path) -> None:
    bare = TextPreprocessor(BareTextSpec(spec.tokenizer, None), minilm)
    assert ids_of(bare(["hello world", "", "[SEP]", "ༀ"])) == [[7592, 2088], [], [102], [100]]
    (long,) = bare(["word " * 1000])
    assert (len(long.ids), long.truncated) == (1000, False)


def test_unknown_tokens_are_dropped_of_what_was_kept(spec: TextSpec, minilm: Path) -> None:
    preprocess = TextPreprocessor(BareTextSpec(spec.tokenizer, 2, dropped=100), minilm)
    assert ids_of(preprocess(["hello ༀ world", "ༀ ༀ world", "world"])) == [[7592], [], [2088]]
    assert [(i.num_tokens, i.truncated) for i in preprocess(["hello ༀ world", "ༀ"])] == [(3, True), (1, False)]


def test_characters_that_are_not_read_truncate_a_text(spec: TextSpec, minilm: Path) -> None:
    preprocess = TextPreprocessor(BareTextSpec(spec.tokenizer, 10, prompt="a ", max_chars=7), minilm)
    whole, cut = preprocess(["hello", "hello world"])
    assert (whole.ids.tolist(), whole.truncated) == ([1037, 7592], False)
    assert (cut.ids.tolist(), cut.truncated) == ([1037, 7592], True)


def test_what_only_bare_text_has_is_not_in_other_fingerprints(spec: TextSpec) -> None:
    assert asdict(spec).keys() == {"tokenizer", "max_tokens", "prompt", "lowercase", "padding"}


def test_no_texts_give_no_inputs(preprocess: TextPreprocessor) -> None:
    assert preprocess([]) == []


def test_lone_surrogates_become_replacement_characters(preprocess: TextPreprocessor) -> None:
    lone, replaced, joined, whole = preprocess(["a \ud800 b", "a \ufffd b", "\ud83d\ude42", "🙂"])
    assert lone.ids.tolist() == replaced.ids.tolist()
    assert joined.ids.tolist() == whole.ids.tolist()
    assert (lone.content_hash, joined.content_hash) == (replaced.content_hash, whole.content_hash)


def test_nul_bytes_are_dropped(preprocess: TextPreprocessor) -> None:
    with_nul, without = preprocess(["cold\x00press", "coldpress"])
    assert with_nul.ids.tolist() == without.ids.tolist()
    assert with_nul.content_hash != without.content_hash


def test_a_single_word_of_a_megabyte_is_one_unknown_token(preprocess: TextPreprocessor) -> None:
    long, beside = preprocess(["x" * 2**20, "cold " + "é" * 2**20 + " press"])
    assert (long.ids.tolist(), long.truncated) == ([101, 100, 102], False)
    assert beside.ids.tolist() == preprocess(["cold [UNK] press"])[0].ids.tolist()


def test_text_without_words_is_the_empty_text(preprocess: TextPreprocessor) -> None:
    blank = [" ", "\n\t\r\n", "\u00a0\u2003\u3000", "\u200b\u200d\ufeff", "\x00\x01\x1f", "\u202e\u202c", " " * 100_000]
    inputs = preprocess(["", *blank])
    assert ids_of(inputs) == [[101, 102]] * len(inputs)
    assert len({i.content_hash for i in inputs}) == len(inputs)


def test_a_byte_order_mark_is_no_part_of_the_text(preprocess: TextPreprocessor) -> None:
    marked, plain, inside = preprocess(["\ufeffcold press", "cold press", "cold\ufeff press"])
    assert marked.ids.tolist() == plain.ids.tolist() == inside.ids.tolist()


def test_composed_and_decomposed_letters_are_the_same(preprocess: TextPreprocessor) -> None:
    words = ["naïve café", "Ångström", "Việt Nam", "한국어"]
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert ids_of(preprocess([unicodedata.normalize(form, word) for word in words])) == ids_of(preprocess(words))
    stacked, bare = preprocess(["z" + "\u0301\u0316\u0335" * 1000, "z"])
    assert stacked.ids.tolist() == bare.ids.tolist()


def test_direction_marks_change_nothing_and_order_is_the_one_in_memory(preprocess: TextPreprocessor) -> None:
    plain, marked, isolated = preprocess(["שלום world", "\u200fשלום\u200e world", "\u2067שלום\u2069 world"])
    assert plain.ids.tolist() == marked.ids.tolist() == isolated.ids.tolist()
    assert plain.ids[-2] == preprocess(["world"])[0].ids[1]


def test_joined_emoji_are_what_the_joiners_leave(preprocess: TextPreprocessor) -> None:
    family, apart, flag = preprocess(["👩‍👩‍👧", "👩👩👧", "🏳️‍🌈"])
    assert family.ids.tolist() == apart.ids.tolist()
    assert len(flag.ids) > 2


def test_surrogates_anywhere_neither_fail_nor_touch_their_neighbours(preprocess: TextPreprocessor) -> None:
    broken = ["\ud800", "\udfff\ud800", "a\udc80b", "🙂\ud83d", "\ud83d" * 1000]
    alone = [preprocess([text])[0].ids.tolist() for text in broken]
    mixed = preprocess([text for pair in zip(broken, ["good"] * len(broken), strict=True) for text in pair])
    assert ids_of(mixed[::2]) == alone
    assert ids_of(mixed[1::2]) == ids_of(preprocess(["good"])) * len(broken)


def test_a_very_long_text_is_cut_and_counted(preprocess: TextPreprocessor) -> None:
    (long,) = preprocess(["cold press " * 100_000])
    assert len(long.ids) == 256
    assert long.ids[-1] == 102
    assert long.truncated
    assert long.num_tokens == 200_002


def test_the_prompt_is_put_in_front(spec: TextSpec, minilm: Path, preprocess: TextPreprocessor) -> None:
    prompted = TextPreprocessor(replace(spec, prompt="query: "), minilm)(["cold press", ""])
    plain = preprocess(["query: cold press", "query: ", "cold press"])
    assert ids_of(prompted) == ids_of(plain[:2])
    assert prompted[0].content_hash == plain[2].content_hash


def test_lower_casing_is_done_where_the_model_asks(tmp_path: Path, spec: TextSpec) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nab\nAB", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    assert ids_of(TextPreprocessor(spec, tmp_path)(["AB"])) == [[2, 6, 3]]
    lowered = TextPreprocessor(replace(spec, lowercase=True, prompt="AB "), tmp_path)
    assert ids_of(lowered(["AB"])) == [[2, 5, 5, 3]]


def test_what_is_no_text_fails_and_the_rest_goes_on(preprocess: TextPreprocessor) -> None:
    contents = [b"bytes", "good", np.zeros((2, 2, 3), np.uint8), PIL.Image.new("RGB", (2, 2)), None, "too"]
    done = preprocess(contents)
    assert [type(d) for d in done] == [Failed, TextInput, Failed, Failed, Failed, TextInput]
    assert done[0].reason == "not a text but bytes"
    assert ids_of([done[1], done[5]]) == ids_of(preprocess(["good", "too"]))


def test_threads_share_one_preprocessor(preprocess: TextPreprocessor, texts: list[str]) -> None:
    expected = ids_of(preprocess(texts))
    batches = [texts[i : i + 50] for i in range(0, len(texts), 50)] * 4
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(preprocess, batches))
    assert [ids for inputs in found for ids in ids_of(inputs)] == expected * 4
    assert preprocess.seconds["tokenize"] > 0


def test_texts_are_tokenised_though_known(preprocess: TextPreprocessor) -> None:
    (known,) = preprocess(["a text"], lambda hashes: [True] * len(hashes))
    assert isinstance(known, TextInput)
    assert known.num_tokens == preprocess(["a text"])[0].num_tokens
