"""NomicBERT (nomic-embed-text): BERT with rotary positions and SwiGLU, without biases in its linear layers.

Source: Nussbaum et al., *Nomic Embed* (2024), https://arxiv.org/abs/2402.01613; weights as in
https://huggingface.co/nomic-ai/nomic-embed-text-v1.5 (Apache-2.0), forward as in
https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/models/nomic_bert/modeling_nomic_bert.py
(Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.models import encoder
from coldpress.models.base import WeightMap
from coldpress.models.encoder import EncoderConfig, EncoderNames, map_encoder
from coldpress.models.names import activation_named, required
from coldpress.models.tensor_names import BlockNames

MODEL_TYPES = frozenset({"nomic_bert"})
PREFIXES = ("nomic_bert.", "bert.", "model.")
IGNORED = (r"pooler\.", r"cls\.", r"classifier\.", r"dropout\.", r".*rotary_emb\.")
_LINEAR = ("attn.Wqkv", "attn.out_proj", "mlp.fc11", "mlp.fc12", "mlp.fc2")
_OLD = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "layer_norm_eps": "layer_norm_epsilon",
    "max_position_embeddings": "n_positions",
}
_SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "activation_function": ("swiglu",),
    "prenorm": (False,),
    "use_rms_norm": (False, None),
    "parallel_block": (False,),
    "causal": (False,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_fraction": (1.0,),
    "rotary_emb_scale_base": (None,),
    "rotary_scaling_factor": (None,),
    "qkv_proj_bias": (False,),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "num_experts": (0,),
}
_NAMES = EncoderNames(
    BlockNames(
        block="encoder.layers.{}",
        qkv=("attn.Wqkv",),
        out="attn.out_proj",
        attention_norm="norm1",
        up="mlp.fc11",
        gate="mlp.fc12",
        down="mlp.fc2",
        mlp_norm="norm2",
        biasless=_LINEAR,
    ),
    words="embeddings.word_embeddings.weight",
    stem_norm="emb_ln",
    token_types="embeddings.token_type_embeddings.weight",
)

build = encoder.build
describe = encoder.describe


def base() -> EncoderConfig:
    """nomic-embed-text-v1.5."""
    sizes = {"vocab_size": 30528, "n_positions": 8192, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": 3072}
    return read_config(sizes | {"rotary_emb_base": 1000}, "mean", normalize=False)


def longest_text(config: Mapping[str, Any]) -> int:
    """Rotation reaches as far as the configuration says."""
    return int(_size(config, "max_position_embeddings"))


def _size(config: Mapping[str, Any], key: str) -> Any:
    """A value under its own name in transformers 5, or the one that nomic-ai gave it."""
    return config[_OLD[key]] if _OLD[key] in config else required(config, key)


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> EncoderConfig:
    """Read a ``config.json`` of nomic-ai, or of transformers 5."""
    for key, values in _SUPPORTED.items():
        if config.get(key, values[0]) not in values:
            raise ModelError(f"config.json: {key} {config[key]!r}, expected {values[0]!r}")
    if kept := config.get("head_dim"):
        width = _size(config, "hidden_size") // _size(config, "num_attention_heads")
        if kept != width:
            raise ModelError(f"config.json: head_dim {kept}, expected {width}")
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise ModelError(f"config.json: rope_type {rope['rope_type']!r}, expected 'default'")
    return EncoderConfig(
        vocabulary=required(config, "vocab_size"),
        max_tokens=longest_text(config),
        token_types=config.get("type_vocab_size", 2),
        width=_size(config, "hidden_size"),
        depth=_size(config, "num_hidden_layers"),
        heads=_size(config, "num_attention_heads"),
        hidden=_size(config, "intermediate_size"),
        rotations=(float(rope.get("rope_theta", config.get("rotary_emb_base", 1000))),)
        * _size(config, "num_hidden_layers"),
        activation=activation_named(config.get("hidden_act", "silu")),
        gated=True,
        eps=config.get("layer_norm_epsilon", config.get("layer_norm_eps", 1e-12)),
        biasless=_LINEAR,
        pooling=pooling,
        normalize=normalize,
    )


def weight_map(config: EncoderConfig) -> WeightMap:
    """Where each parameter comes from in a checkpoint with the names of nomic-ai, which transformers 5 writes too."""
    return map_encoder(config, _NAMES)
