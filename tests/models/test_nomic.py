"""NomicBERT: tiny cases for the conformance suite, and the configuration that nomic-ai publishes."""

from __future__ import annotations

from typing import Any

import pytest
from conformance import Case
from test_bert import TOKENIZER, VOCABULARY, sentence_layout
from transformers import NomicBertConfig, NomicBertForMaskedLM, NomicBertModel

from coldpress.errors import ModelError
from coldpress.models import nomic

TINY: dict[str, Any] = {
    "vocab_size": len(VOCABULARY), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 40, "max_position_embeddings": 60,
}  # fmt: skip
PUBLISHED: dict[str, Any] = {
    "model_type": "nomic_bert", "activation_function": "swiglu", "causal": False, "layer_norm_epsilon": 1e-12,
    "n_embd": 768, "n_head": 12, "n_inner": 3072, "n_layer": 12, "n_positions": 8192, "prenorm": False,
    "qkv_proj_bias": False, "mlp_fc1_bias": False, "mlp_fc2_bias": False, "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None, "type_vocab_size": 2, "use_rms_norm": False, "vocab_size": 30528,
}  # fmt: skip


def tiny(**changed: Any) -> NomicBertConfig:
    return NomicBertConfig(**TINY | changed)


CASES = [
    Case("plain", "nomic", lambda: NomicBertModel(tiny()), TOKENIZER, "mean"),
    Case("panels", "nomic", lambda: NomicBertModel(tiny(hidden_size=64, num_attention_heads=2)), TOKENIZER, "mean"),
    Case("masked_lm", "nomic", lambda: NomicBertForMaskedLM(tiny()), TOKENIZER, "mean"),
    Case(
        "theta", "nomic",
        lambda: NomicBertModel(tiny(rope_parameters={"rope_type": "default", "rope_theta": 50.0})), TOKENIZER, "mean",
    ),
    Case("cls", "nomic", lambda: NomicBertModel(tiny()), sentence_layout("cls", normalize=True), "cls", normalize=True),
]  # fmt: skip


def test_the_published_configuration_is_read() -> None:
    read = nomic.read_config(PUBLISHED, "mean", normalize=False)
    assert read == nomic.base()
    assert (read.max_tokens, read.rotations) == (8192, (1000.0,) * 12)
    parameters = dict(nomic.build(read, None).named_parameters())  # type: ignore[arg-type]
    assert sum(parameters[name].numel() for name in nomic.weight_map(read)) == 136_731_648


@pytest.mark.parametrize("changed", [{"num_experts": 8}, {"rotary_emb_fraction": 0.5}, {"qkv_proj_bias": True}])
def test_variants_that_we_do_not_have_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=rf"config\.json: {next(iter(changed))}"):
        nomic.read_config(PUBLISHED | changed, "mean", normalize=False)
