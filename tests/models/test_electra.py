"""ELECTRA: tiny cases for the conformance suite."""

from __future__ import annotations

from typing import Any

from conformance import Case
from test_bert import TOKENIZER, VOCABULARY
from torch import nn
from transformers import ElectraConfig, ElectraForPreTraining, ElectraForSequenceClassification, ElectraModel


def config(**changed: Any) -> ElectraConfig:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    stated = {"vocab_size": len(VOCABULARY), "embedding_size": 16, "max_position_embeddings": 33} | sizes
    return ElectraConfig(**stated | changed)


def encoder(model: nn.Module) -> nn.Module:
    return getattr(model, "electra", model)


CASES = [
    Case("narrow", "electra", lambda: ElectraModel(config()), TOKENIZER, "mean", tower=encoder),
    Case("wide", "electra", lambda: ElectraModel(config(embedding_size=24)), TOKENIZER, "mean", tower=encoder),
    Case("discriminator", "electra", lambda: ElectraForPreTraining(config()), TOKENIZER, "mean", tower=encoder),
    Case("classifier", "electra", lambda: ElectraForSequenceClassification(config()), TOKENIZER, "mean", tower=encoder),
]
