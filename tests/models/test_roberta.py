"""RoBERTa and its kin: tiny cases for the conformance suite, and positions behind the padding token's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import Case, embed_texts, load_ready, randomise, write_files
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from test_bert import TOKENIZER, VOCABULARY, sentence_layout
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import RobertaProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    CamembertConfig,
    CamembertModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from coldpress.errors import ModelError

TINY: dict[str, Any] = {
    "vocab_size": len(VOCABULARY), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 40, "max_position_embeddings": 35, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
}  # fmt: skip
PANELS: dict[str, Any] = TINY | {"hidden_size": 64, "num_attention_heads": 2}


def tiny(**changed: Any) -> RobertaConfig:
    return RobertaConfig(**TINY | changed)


CASES = [
    Case("plain", "roberta", lambda: RobertaModel(tiny()), TOKENIZER, "mean"),
    Case("panels", "roberta", lambda: RobertaModel(RobertaConfig(**PANELS)), TOKENIZER, "mean"),
    Case("padding_0", "roberta", lambda: RobertaModel(tiny(pad_token_id=0)), TOKENIZER, "mean"),
    Case("masked_lm", "roberta", lambda: RobertaForMaskedLM(tiny()), TOKENIZER, "mean"),
    Case("classifier", "roberta", lambda: RobertaForSequenceClassification(tiny()), TOKENIZER, "mean"),
    Case("cls", "roberta", lambda: RobertaModel(tiny()), sentence_layout("cls", normalize=False), "cls"),
    Case(
        "xlm", "roberta", lambda: XLMRobertaModel(XLMRobertaConfig(**TINY | {"type_vocab_size": 2})),
        sentence_layout("mean", normalize=True), "mean", normalize=True,
    ),
    Case("camembert", "roberta", lambda: CamembertModel(CamembertConfig(**TINY)), TOKENIZER, "mean"),
]  # fmt: skip

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TEXTS = ["how are you", "", "Größe und Maß", "a <pad> within", "word " * 60, "one two three"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A tiny RoBERTa as published: byte-level BPE, two more positions than the tokenizer says."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=290, special_tokens=SPECIAL, initial_alphabet=ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    randomise(RobertaModel(tiny(vocab_size=tokenizer.get_vocab_size()))).save_pretrained(tmp_path)
    settings = {"tokenizer_class": "RobertaTokenizerFast", "pad_token": "<pad>", "model_max_length": 33}
    write_files(tmp_path, sentence_layout("mean", normalize=True) | {"tokenizer_config.json": settings})
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "sentence_bert_config.json").unlink()
    return tmp_path


def test_vectors_are_those_of_sentence_transformers(directory: Path) -> None:
    """A padding token that somebody typed does not count as a position, and texts fill all that there are."""
    loaded = load_ready(directory)
    assert loaded.spec.max_tokens == 33
    modules = [Transformer(str(directory)), Pooling(24, pooling_mode="mean"), Normalize()]
    theirs = SentenceTransformer(modules=modules, device="cpu").encode(TEXTS)
    assert np.abs(embed_texts(loaded, TEXTS) - theirs).max() < 1e-5


def test_positions_bound_a_text_where_the_tokenizer_does_not(directory: Path) -> None:
    write_files(directory, {"tokenizer_config.json": {"model_max_length": 10**30}})
    assert load_ready(directory).spec.max_tokens == 33


def test_a_slow_tokenizer_alone_is_refused_with_a_remedy(directory: Path) -> None:
    (directory / "tokenizer.json").rename(directory / "sentencepiece.bpe.model")
    with pytest.raises(ModelError, match=r"has sentencepiece\.bpe\.model and no tokenizer\.json; write it"):
        load_ready(directory)
