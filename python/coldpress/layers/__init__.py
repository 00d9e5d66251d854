"""Modules that hold weights and call ops; everything a backbone family is built from."""

from coldpress.layers.attention import AttentionPool, Rotation, SelfAttention
from coldpress.layers.embed import PatchEmbedding, interpolate_positions
from coldpress.layers.linear import Linear
from coldpress.layers.mlp import Mlp, SwiGlu
from coldpress.layers.norm import LayerNorm
from coldpress.layers.transformer import PreNormBlock

__all__ = [
    "AttentionPool",
    "LayerNorm",
    "Linear",
    "Mlp",
    "PatchEmbedding",
    "PreNormBlock",
    "Rotation",
    "SelfAttention",
    "SwiGlu",
    "interpolate_positions",
]
