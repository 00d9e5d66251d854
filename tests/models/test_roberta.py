"""RoBERTa and its kin: tiny cases for the conformance suite, and positions behind the padding token's."""

from __future__ import annotations

from typing import Any

from conformance import Case
from test_bert import TOKENIZER, VOCABULARY, sentence_layout
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

from coldpress import models

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


def test_presets_have_the_published_sizes() -> None:
    from coldpress.models import roberta

    def parameters(config: Any) -> int:
        with_weights = roberta.build(config, None)  # type: ignore[arg-type]
        return sum(p.numel() for p in with_weights.parameters())

    e5 = roberta.multilingual_e5_small()
    assert parameters(e5) + 384 == 117_653_760 - 384 * 385  # the row before padding is dropped, the pooler is not there
    assert models is not None
