"""DistilBERT: tiny cases for the conformance suite."""

from __future__ import annotations

from typing import Any

from conformance import Case
from test_bert import TOKENIZER, VOCABULARY, sentence_layout
from transformers import DistilBertConfig, DistilBertForMaskedLM, DistilBertForSequenceClassification, DistilBertModel


def tiny(**changed: Any) -> DistilBertConfig:
    sizes = {"vocab_size": len(VOCABULARY), "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40}
    return DistilBertConfig(**sizes | {"max_position_embeddings": 33} | changed)


CASES = [
    Case("plain", "distilbert", lambda: DistilBertModel(tiny()), TOKENIZER, "mean"),
    Case("panels", "distilbert", lambda: DistilBertModel(tiny(dim=64, n_heads=2)), TOKENIZER, "mean"),
    Case("masked_lm", "distilbert", lambda: DistilBertForMaskedLM(tiny()), TOKENIZER, "mean"),
    Case("classifier", "distilbert", lambda: DistilBertForSequenceClassification(tiny()), TOKENIZER, "mean"),
    Case("cls", "distilbert", lambda: DistilBertModel(tiny()), sentence_layout("cls", normalize=False), "cls"),
]
