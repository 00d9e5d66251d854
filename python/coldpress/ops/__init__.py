"""The ops: each file holds schema, public wrapper, fake and plain-torch reference of one of them."""

from coldpress._library import load as _load
from coldpress.ops._define import ReferenceMode, in_reference_mode, op_names
from coldpress.ops._lengths import known_lengths
from coldpress.ops.attention_quantized import attention_quantized, fits_attention_quantized
from coldpress.ops.bias_activation import bias_activation_
from coldpress.ops.conv2d import conv2d, pack_conv_weight
from coldpress.ops.depthwise_conv2d import depthwise_conv2d, pack_taps
from coldpress.ops.layer_norm import add_layer_norm, layer_norm
from coldpress.ops.linear import Activation, linear, pack_weight, unpack_weight
from coldpress.ops.linear_float8 import linear_float8, quantize_rows
from coldpress.ops.linear_quantized import QuantizedWeight, linear_quantized, quantize_weight
from coldpress.ops.max_pool2d import max_pool2d
from coldpress.ops.merge_tokens import merge_tokens
from coldpress.ops.mlp_quantized import mlp_quantized
from coldpress.ops.pad_pixels import pad_pixels
from coldpress.ops.patchify import patchify
from coldpress.ops.pool import Pooling, pool
from coldpress.ops.residual_norm import Codes, norm_quantized, residual_norm
from coldpress.ops.resize_images import Axis, ResizePlan, plan_batch, resize_images
from coldpress.ops.rope import rope_
from coldpress.ops.separable_conv2d import Folded, separable_conv2d
from coldpress.ops.token_places import token_places
from coldpress.ops.varlen_attention import CAUSAL, EVERYWHERE, Window, varlen_attention
from coldpress.ops.winograd_conv2d import pack_winograd_weight, unpack_winograd_weight, winograd_conv2d

_load()

__all__ = [
    "CAUSAL",
    "EVERYWHERE",
    "Activation",
    "Axis",
    "Codes",
    "Folded",
    "Pooling",
    "QuantizedWeight",
    "ReferenceMode",
    "ResizePlan",
    "Window",
    "add_layer_norm",
    "attention_quantized",
    "bias_activation_",
    "conv2d",
    "depthwise_conv2d",
    "fits_attention_quantized",
    "in_reference_mode",
    "known_lengths",
    "layer_norm",
    "linear",
    "linear_float8",
    "linear_quantized",
    "max_pool2d",
    "merge_tokens",
    "mlp_quantized",
    "norm_quantized",
    "op_names",
    "pack_conv_weight",
    "pack_taps",
    "pack_weight",
    "pack_winograd_weight",
    "pad_pixels",
    "patchify",
    "plan_batch",
    "pool",
    "quantize_rows",
    "quantize_weight",
    "residual_norm",
    "resize_images",
    "rope_",
    "separable_conv2d",
    "token_places",
    "unpack_weight",
    "unpack_winograd_weight",
    "varlen_attention",
    "winograd_conv2d",
]
