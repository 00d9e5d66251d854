"""ModernBERT: tiny cases for the conformance suite, with texts longer than the local window."""

from __future__ import annotations

from typing import Any

import pytest
from conformance import Case
from test_bert import TOKENIZER, VOCABULARY, sentence_layout
from transformers import ModernBertConfig, ModernBertForMaskedLM, ModernBertForSequenceClassification, ModernBertModel

from coldpress.errors import ModelError
from coldpress.models import modernbert

TINY: dict[str, Any] = {
    "vocab_size": len(VOCABULARY), "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3,
    "intermediate_size": 40, "max_position_embeddings": 90, "local_attention": 10, "pad_token_id": 0,
    "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3,
}  # fmt: skip


def case(name: str, model: type = ModernBertModel, files: dict[str, Any] = TOKENIZER, pooling: str = "mean",
         normalize: bool = False, limits: dict[str, Any] | None = None, **changed: Any) -> Case:  # fmt: skip
    build = lambda: model(ModernBertConfig(**TINY | changed))  # noqa: E731
    return Case(name, "modernbert", build, files, pooling, normalize=normalize, **limits or {})


SENSITIVE = {"int8_cosine": 0.96}
"""In the attention of the third block, the last of 90 tokens amplifies errors three times as much as the median one: of
a relative error of 1e-4 in every linear layer, drawn at random in float64, 17e-4 of its vector, in the median 5e-4. In
int8 its cosine is 0.97, that of the last tokens of other texts above 0.995. Biases or another width do away with it."""

CASES = [
    case("plain", limits=SENSITIVE),
    case("panels", hidden_size=64, num_attention_heads=2),
    case("biases", norm_bias=True, attention_bias=True, mlp_bias=True),
    case("local_last", num_hidden_layers=3, limits=SENSITIVE | {"k": 5}),
    case("silu", hidden_activation="silu", num_hidden_layers=2),
    case("masked_lm", ModernBertForMaskedLM, limits=SENSITIVE),
    case("classifier", ModernBertForSequenceClassification, limits=SENSITIVE),
    case("cls", files=sentence_layout("cls", normalize=True), pooling="cls", normalize=True),
]


def test_configurations_from_before_and_after_version_5() -> None:
    old = TINY | {"global_attn_every_n_layers": 2, "global_rope_theta": 5e5, "local_rope_theta": 1e3}
    read = modernbert.read_config(old, "mean", normalize=False)
    assert read.windows == (-1, 5, -1, 5)
    assert read.rotations == (5e5, 1e3, 5e5, 1e3)
    new = TINY | {
        "layer_types": ["full_attention", "sliding_attention"] * 2,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e3},
        },
    }
    assert modernbert.read_config(new, "mean", normalize=False) == read


def test_presets_have_the_published_sizes() -> None:
    counts = [sum(p.numel() for p in modernbert.build(c, None).parameters()) for c in (modernbert.base(),)]  # type: ignore[arg-type]
    assert 149_000_000 < counts[0] < 149_500_000
    assert len(modernbert.large().windows) == 28


@pytest.mark.parametrize(
    "changed", [{"layer_types": ["full_attention"]}, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}]
)
def test_what_we_do_not_have_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"config\.json: (layer_types|rope_type)"):
        modernbert.read_config(TINY | changed, "mean", normalize=False)
