"""Static embeddings: tiny cases for the conformance suite, and the vectors of model2vec and sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conformance import Case, randomise, write_files
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Normalize, StaticEmbedding
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

import coldpress
from coldpress.bench.work import flop_per_item
from coldpress.cli import main
from coldpress.data import MemorySource
from coldpress.errors import ColdpressError, ModelError
from coldpress.preprocess.text import TextPreprocessor
from coldpress.types import Item

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz", *("##" + c for c in "aeiou")]
VOCABULARY += [f"word{i}" for i in range(40)]  # so that the median token is longer than many
TEXTS = [
    "a b c",
    "",
    "ba ca",
    "?",
    "q ? r ?",
    "x y z " * 20,
    "e f g h " * 225,
    "[SEP] [UNK] a",
    "ha he",
    "word10 word11 word12",
    "\ud800",
]


def wordpiece() -> Tokenizer:
    """One that puts special tokens around a text where it may."""
    made = Tokenizer(models.WordPiece({token: i for i, token in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


def unigram() -> Tokenizer:
    pieces = [("<unk>", 0.0), *((letter, -2.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"), ("▁ha", -1.0)]
    pieces += [(f"▁word{letter}", -1.0) for letter in "abcdefghijklmnopqrstuvwxyzäöüß"]
    made = Tokenizer(models.Unigram(pieces, unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


def byte_pairs() -> Tokenizer:
    """One without a token for what it does not know."""
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}, []))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def files(*kinds: str, **config: Any) -> dict[str, Any]:
    """What lies beside the weights; without `config`, as sentence-transformers writes it."""
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": ""} for kind in kinds]
    stated = {"config.json": {"model_type": "model2vec", **config}} if config else {}
    return stated | {"modules.json": modules, "tokenizer.json": wordpiece().to_str()}


class Upstream(nn.Module):
    """A table in plain torch, as far as possible with the interface of transformers."""

    def __init__(self, name: str = "embeddings", rows: int = 0, *, weighted: bool = False) -> None:
        super().__init__()
        self.name, self.config = name, SimpleNamespace(vocab_size=len(VOCABULARY))
        self.table = nn.Parameter(torch.empty(rows or len(VOCABULARY), 24))
        self.weights = nn.Parameter(torch.empty(len(VOCABULARY))) if weighted else None
        self.register_buffer("mapping", torch.arange(len(VOCABULARY), dtype=torch.int32) % rows if rows else None)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        tokens = self.table[input_ids if self.mapping is None else self.mapping[input_ids]]
        return SimpleNamespace(
            last_hidden_state=tokens if self.weights is None else tokens * self.weights[input_ids][..., None]
        )

    def save_pretrained(self, directory: Path) -> None:
        tensors = {self.name: self.table, "weights": self.weights, "mapping": self.mapping}
        save_file(
            {name: tensor.data for name, tensor in tensors.items() if tensor is not None},
            directory / "model.safetensors",
        )


def case(name: str, beside: dict[str, Any], *arguments: Any, unit: bool = False, **options: Any) -> Case:
    upstream = Upstream(*arguments, **options)
    return Case(
        name, "model2vec", lambda: upstream, beside, "mean", normalize=unit, tower=lambda model: model,
        lengths=(5, 1, 40, 2, 17, 9, 16), optional=("mapping", "weights"),
        free={upstream.name: (1,) if upstream.mapping is None else (0, 1)},
    )  # fmt: skip


STATIC = "StaticEmbedding"
CASES = [
    case("plain", files(STATIC, normalize=False)),
    case("unit", files(STATIC, "Normalize", normalize=True), unit=True),
    case("weighted", files(STATIC, normalize=False), weighted=True),
    case("shared_rows", files(STATIC, "Normalize", normalize=True), "embeddings", 7, unit=True, weighted=True),
    case("sentence_transformers", files(STATIC, "Normalize"), "embedding.weight", unit=True),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A tiny model of model2vec."""
    randomise(Upstream()).save_pretrained(tmp_path)
    write_files(tmp_path, files(STATIC, normalize=False))
    return tmp_path


def embed(directory: Path, texts: Sequence[str] = TEXTS, **options: Any) -> np.ndarray:
    return coldpress.Extractor(directory, **options).embed(texts)


def items(texts: Sequence[str]) -> MemorySource:
    return MemorySource([Item(f"k{i}", text) for i, text in enumerate(texts)], "text")


def close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-5) -> bool:
    """Near enough for sums of hundreds of rows, which upstream takes one after the other."""
    return bool(np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("tokenizer", [wordpiece, unigram, byte_pairs])
@pytest.mark.parametrize(
    "settings", [{}, {"normalize": True}, {"max_length": 3}, {"max_length": None}], ids=lambda s: str(s or "default")
)
def test_vectors_are_those_of_model2vec(tokenizer: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    static = pytest.importorskip("model2vec").StaticModel
    made = tokenizer()
    vectors = np.random.default_rng(0).standard_normal((made.get_vocab_size(), 24)).astype(np.float32)
    upstream = static(vectors, made, {"model_type": "model2vec"}, **settings)
    upstream.save_pretrained(tmp_path)
    texts = [text.replace("\ud800", "\ufffd") for text in TEXTS]
    assert close(embed(tmp_path), upstream.encode(texts))


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_tables_of_every_kind_are_read(dtype: Any, weighted: bool, tmp_path: Path) -> None:
    static = pytest.importorskip("model2vec").StaticModel
    draw = np.random.default_rng(0)
    vectors = (20 * draw.standard_normal((7, 24))).astype(dtype)
    weights = draw.random(len(VOCABULARY)) if weighted else None
    mapping = np.arange(len(VOCABULARY)) % 7
    options = {"weights": weights, "token_mapping": mapping, "normalize": True}
    upstream = static(vectors, wordpiece(), {"model_type": "model2vec"}, **options)
    upstream.save_pretrained(tmp_path)
    tolerance = 1e-3 if dtype is np.float16 else 1e-5  # upstream rounds its means to the dtype of the table
    assert close(embed(tmp_path, TEXTS[:-1]), upstream.encode(TEXTS[:-1]), tolerance)


def test_a_real_model_gives_its_golden_vectors(shared: Path) -> None:
    model = shared / "models" / "model2vec_bge_base_vq128"
    golden = json.loads((model / "golden_hello.json").read_text())[0]
    vectors = embed(model, ["hello", "hello " * 1000])
    assert np.abs(vectors - np.array(golden)).max() < 1e-6


def test_real_texts_have_the_vectors_of_model2vec(shared: Path) -> None:
    static = pytest.importorskip("model2vec").StaticModel
    model, texts = shared / "models" / "model2vec_bge_base_vq128", []
    for name in ("ag_news/test.jsonl", "trec6/test.jsonl", "cranfield/corpus.jsonl", "sst2/dev.jsonl"):
        lines = (shared / "text" / name).read_text(encoding="utf-8").splitlines()[:100]
        texts += [json.loads(line)["text"] for line in lines]
    assert np.abs(embed(model, texts) - static.from_pretrained(model).encode(texts)).max() < 1e-6


@pytest.mark.parametrize("after", [[], [Normalize()], [Dense(24, 8), Normalize()]], ids=["bare", "unit", "dense"])
@pytest.mark.parametrize("longest", [None, 5])
def test_vectors_are_those_of_sentence_transformers(
    after: list[nn.Module], longest: int | None, tmp_path: Path
) -> None:
    tokenizer = wordpiece()
    if longest:
        tokenizer.enable_truncation(longest)
    modules = [randomise(StaticEmbedding(tokenizer, embedding_dim=24)), *map(randomise, after)]
    upstream = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "find q: "})
    upstream.save(str(tmp_path))
    texts = [text.replace("\ud800", "\ufffd") for text in TEXTS]
    assert close(embed(tmp_path), upstream.encode(texts))
    assert close(embed(tmp_path, prompt="query"), upstream.encode(texts, prompt_name="query"))


def test_an_older_layout_has_the_table_in_a_directory_of_its_own(directory: Path) -> None:
    table = load_file(directory / "model.safetensors")["embeddings"]
    write_files(directory / "old", {"modules.json": [{"type": f"a.{STATIC}", "path": "0_Static"}]})
    write_files(directory / "old", {"0_Static/tokenizer.json": wordpiece().to_str()})
    save_file({"embedding.weight": table}, directory / "old" / "0_Static" / "model.safetensors")
    assert np.array_equal(embed(directory / "old", ["a b"]), embed(directory, ["a b"]))


def test_unknown_words_count_for_sentence_transformers_alone(directory: Path) -> None:
    assert np.array_equal(*embed(directory, ["a ? b", "a b"]))
    save_file(
        {"embedding.weight": load_file(directory / "model.safetensors")["embeddings"]}, directory / "model.safetensors"
    )
    (directory / "config.json").unlink()
    assert not np.array_equal(*embed(directory, ["a ? b", "a b"]))


def test_config_json_needs_no_modules(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    (directory / "modules.json").unlink()
    write_files(directory, {"config.json": {"model_type": "model2vec", "normalize": True}})
    assert np.allclose(np.linalg.norm(embed(directory, ["a b", "ba"]), axis=1), 1)
    assert not caplog.records


@pytest.mark.parametrize("output", ["pooled", "cls", "mean", "last"])
def test_a_text_without_tokens_has_a_zero_vector_whatever_is_beside_it(directory: Path, output: str) -> None:
    extractor = coldpress.Extractor(directory, output=output)
    together = extractor.embed(TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        assert np.array_equal(extractor.embed([text])[0], row)
        assert row.any() == (text not in ("", "?", "\ud800"))
    assert not extractor.embed(["", "?"]).any()


def test_a_store_knows_what_was_cut(directory: Path, tmp_path: Path) -> None:
    extractor = coldpress.Extractor(directory, output="pooled,tokens")
    store = extractor.embed_to(tmp_path / "store", items(TEXTS), dtype="float32")
    assert np.array_equal(store.output("pooled"), extractor.embed(TEXTS))
    assert store.certificate.passed
    rows = store.read_metadata(["num_tokens", "truncated"]).to_pylist()
    assert [(row["num_tokens"], row["truncated"]) for row in rows[1:7]] == [
        (0, False), (4, False), (1, False), (4, False), (60, False), (900, True),
    ]  # fmt: skip
    assert [len(store.output("tokens")[i]) for i in range(5)] == [3, 0, 4, 0, 2]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_texts_without_tokens_fill_a_store(directory: Path, tmp_path: Path) -> None:
    extractor = coldpress.Extractor(directory, output="pooled,tokens")
    store = extractor.embed_to(tmp_path / "store", items(["?", ""]))
    assert not store.output("pooled")[:].any()
    assert [len(store.output("tokens")[i]) for i in range(2)] == [0, 0]


def test_fp32_is_the_only_precision(directory: Path) -> None:
    assert coldpress.Extractor(directory).precision == "fp32"
    with pytest.raises(ColdpressError, match="'int8' is not available for this model on cpu; expected auto or fp32"):
        coldpress.Extractor(directory, precision="int8")


def test_nothing_is_multiplied(directory: Path) -> None:
    extractor = coldpress.Extractor(directory)
    inputs = TextPreprocessor(extractor.model.spec, directory)(["a b"])
    assert flop_per_item(extractor.model.backbone, inputs, extractor.outputs) == 0


def test_there_are_no_layers(directory: Path) -> None:
    with pytest.raises(ColdpressError, match="this backbone has no layers"):
        coldpress.Extractor(directory, output="layer:1")
    with pytest.raises(ModelError, match="this is no transformer of a known family; leave layers out"):
        coldpress.Extractor(directory, layers=1)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"mapping": torch.full((len(VOCABULARY),), 7)}, "mapping goes from 7 to 7, expected rows 0 to 6"),
        ({"mapping": torch.full((len(VOCABULARY),), -1)}, "mapping goes from -1 to -1, expected rows 0 to 6"),
        ({}, r"wrong shape: embeddings is \(7, 24\), not \(75, 24\)"),
        ({"embeddings": torch.zeros(7)}, r"wrong shape: embeddings is \(7,\)"),
    ],
)
def test_a_table_that_does_not_fit_its_tokens_is_refused(
    directory: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    save_file({"embeddings": torch.zeros(7, 24)} | tensors, directory / "model.safetensors")
    with pytest.raises(ModelError, match=rf"^{directory}: .*{message}"):
        coldpress.Extractor(directory)


def test_info_says_how_texts_are_cut(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["info", str(directory), "--json"])
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (shown["family"], shown["depth"], shown["dim"], shown["precisions"]) == ("model2vec", 0, 24, ["fp32"])
    assert shown["preprocessing"].items() >= {"max_tokens": 512, "max_chars": 5 * 512, "dropped": 1}.items()
