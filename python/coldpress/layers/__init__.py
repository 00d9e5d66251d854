"""Modules that hold weights and call ops; everything a backbone family is built from."""

from coldpress.layers.attention import AttentionPool, Rotation, SelfAttention
from coldpress.layers.conv import Conv2d, Padding, PixelConv2d, SeparableConv2d
from coldpress.layers.embed import Grid, PatchEmbedding, interpolate_positions
from coldpress.layers.linear import STORED, Linear
from coldpress.layers.merging import Packing, TokenMerging
from coldpress.layers.mlp import GatedMlp, Mlp
from coldpress.layers.norm import GlobalResponseNorm, LayerNorm
from coldpress.layers.transformer import PostNormBlock, PreNormBlock

__all__ = [
    "STORED",
    "AttentionPool",
    "Conv2d",
    "GatedMlp",
    "GlobalResponseNorm",
    "Grid",
    "LayerNorm",
    "Linear",
    "Mlp",
    "Packing",
    "Padding",
    "PatchEmbedding",
    "PixelConv2d",
    "PostNormBlock",
    "PreNormBlock",
    "Rotation",
    "SelfAttention",
    "SeparableConv2d",
    "TokenMerging",
    "interpolate_positions",
]
