"""Modules that hold weights and call ops; everything a backbone family is built from."""

from coldpress.layers.attention import SelfAttention
from coldpress.layers.conv import Conv2d, Padding, PixelConv2d, SeparableConv2d
from coldpress.layers.embed import PatchEmbedding, interpolate_positions
from coldpress.layers.linear import Linear
from coldpress.layers.mlp import Mlp, SwiGlu
from coldpress.layers.norm import LayerNorm

__all__ = [
    "Conv2d",
    "LayerNorm",
    "Linear",
    "Mlp",
    "Padding",
    "PatchEmbedding",
    "PixelConv2d",
    "SelfAttention",
    "SeparableConv2d",
    "SwiGlu",
    "interpolate_positions",
]
