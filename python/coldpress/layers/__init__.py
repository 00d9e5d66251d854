"""Modules that hold weights and call ops; everything a backbone family is built from."""

from coldpress.layers.attention import AttentionPool, Rotation, SelfAttention
from coldpress.layers.embed import PatchEmbedding, interpolate_positions
from coldpress.layers.linear import Linear
from coldpress.layers.mlp import GatedMlp, Mlp
from coldpress.layers.norm import LayerNorm
from coldpress.layers.transformer import PostNormBlock, PreNormBlock

__all__ = [
    "AttentionPool",
    "GatedMlp",
    "LayerNorm",
    "Linear",
    "Mlp",
    "PatchEmbedding",
    "PostNormBlock",
    "PreNormBlock",
    "Rotation",
    "SelfAttention",
    "interpolate_positions",
]
