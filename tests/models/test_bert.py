"""BERT: tiny cases for the conformance suite, and the layouts in which such models are published."""

from __future__ import annotations

from conformance import Case
from transformers import BertConfig, BertForSequenceClassification, BertModel

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *("##" + c for c in "aeiou")]


def config(activation: str = "gelu") -> BertConfig:
    return BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=33, hidden_act=activation,
    )  # fmt: skip


TOKENIZER = {"vocab.txt": "\n".join(VOCABULARY)}


def sentence_layout(pooling: str, *, normalize: bool) -> dict[str, object]:
    """The files that sentence-transformers puts beside a model."""
    modules = ["Transformer", "Pooling", "Normalize"] if normalize else ["Transformer", "Pooling"]
    paths = ["", "1_Pooling", "2_Normalize"]
    mode = {"cls": "cls_token", "mean": "mean_tokens", "last": "lasttoken"}[pooling]
    return TOKENIZER | {
        "modules.json": [
            {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{module}"}
            for i, module in enumerate(modules)
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": 24, f"pooling_mode_{mode}": True},
        "sentence_bert_config.json": {"max_seq_length": 20, "do_lower_case": False},
    }


CASES = [
    Case("gelu", "bert", lambda: BertModel(config()), TOKENIZER, "mean"),
    Case("relu", "bert", lambda: BertModel(config("relu")), TOKENIZER, "mean"),
    Case("gelu_new", "bert", lambda: BertModel(config("gelu_new")), TOKENIZER, "mean"),
    Case("task_head", "bert", lambda: BertForSequenceClassification(config()), TOKENIZER, "mean"),
    Case("cls", "bert", lambda: BertModel(config()), sentence_layout("cls", normalize=False), "cls"),
    Case("last", "bert", lambda: BertModel(config()), sentence_layout("last", normalize=False), "last"),
    Case("unit", "bert", lambda: BertModel(config()), sentence_layout("mean", normalize=True), "mean", normalize=True),
]
