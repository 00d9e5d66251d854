"""The ops: each file holds schema, public wrapper, fake and plain-torch reference of one of them."""

from coldpress._library import load as _load
from coldpress.ops._define import ReferenceMode, op_names
from coldpress.ops.attention_int8 import attention_int8, fits_attention_int8
from coldpress.ops.bias_gelu import bias_gelu
from coldpress.ops.layer_norm import add_layer_norm, layer_norm
from coldpress.ops.linear import Activation, linear, pack_weight, unpack_weight
from coldpress.ops.linear_int8 import PackedInt8, linear_int8, pack_weight_int8
from coldpress.ops.mlp_int8 import mlp_int8
from coldpress.ops.patchify import patchify
from coldpress.ops.pool import Pooling, pool
from coldpress.ops.varlen_attention import varlen_attention

_load()

__all__ = [
    "Activation",
    "PackedInt8",
    "Pooling",
    "ReferenceMode",
    "add_layer_norm",
    "attention_int8",
    "bias_gelu",
    "fits_attention_int8",
    "layer_norm",
    "linear",
    "linear_int8",
    "mlp_int8",
    "op_names",
    "pack_weight",
    "pack_weight_int8",
    "patchify",
    "pool",
    "unpack_weight",
    "varlen_attention",
]
