"""MPNet: tiny cases for the conformance suite, long enough that distances fall into shared buckets."""

from __future__ import annotations

from typing import Any

from conformance import Case
from test_bert import TOKENIZER, VOCABULARY, sentence_layout
from transformers import MPNetConfig, MPNetForMaskedLM, MPNetModel


def tiny(**changed: Any) -> MPNetConfig:
    sizes = {
        "vocab_size": len(VOCABULARY), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 40, "max_position_embeddings": 152, "layer_norm_eps": 1e-5,
    }  # fmt: skip
    return MPNetConfig(**sizes | changed)


CASES = [
    Case("plain", "mpnet", lambda: MPNetModel(tiny()), TOKENIZER, "mean"),
    Case("panels", "mpnet", lambda: MPNetModel(tiny(hidden_size=64, num_attention_heads=2)), TOKENIZER, "mean"),
    Case("masked_lm", "mpnet", lambda: MPNetForMaskedLM(tiny()), TOKENIZER, "mean"),
    Case("cls", "mpnet", lambda: MPNetModel(tiny()), sentence_layout("cls", normalize=True), "cls", normalize=True),
]
