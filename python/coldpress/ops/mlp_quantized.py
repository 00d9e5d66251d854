"""The feed-forward half of a transformer block on integers: two :func:`linear_quantized`, residual and
normalisation, one op.

Source: Vaswani et al., *Attention Is All You Need* (2017), https://arxiv.org/abs/1706.03762.
"""

from __future__ import annotations

import torch

from coldpress.ops._define import define
from coldpress.ops.layer_norm import layer_norm_reference
from coldpress.ops.linear import Activation
from coldpress.ops.linear_quantized import QuantizedWeight, check_alike, check_quantized, linear_quantized_reference


def mlp_quantized_reference(
    x: torch.Tensor,
    up: torch.Tensor,
    up_columns: torch.Tensor,
    up_bias: torch.Tensor,
    down: torch.Tensor,
    down_columns: torch.Tensor,
    down_bias: torch.Tensor,
    activation: str,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    eps: float,
    norm_first: bool,
) -> torch.Tensor:
    """Plain torch."""
    inputs = layer_norm_reference(x, norm_weight, norm_bias, eps) if norm_first else x
    hidden = linear_quantized_reference(inputs, up, up_columns, up_bias, activation)
    summed = linear_quantized_reference(hidden, down, down_columns, down_bias, "none") + x
    return summed if norm_first else layer_norm_reference(summed, norm_weight, norm_bias, eps)


_mlp_quantized = define(
    "mlp_quantized(Tensor x, Tensor up, Tensor up_columns, Tensor up_bias, Tensor down, Tensor down_columns, "
    "Tensor down_bias, str activation, Tensor norm_weight, Tensor norm_bias, float eps, bool norm_first) -> Tensor",
    reference=mlp_quantized_reference,
    fake=lambda x, *rest: torch.empty_like(x),
)


def mlp_quantized(
    x: torch.Tensor,
    up: QuantizedWeight,
    up_bias: torch.Tensor,
    down: QuantizedWeight,
    down_bias: torch.Tensor,
    *,
    activation: Activation,
    norm: tuple[torch.Tensor, torch.Tensor, float],
    norm_first: bool,
) -> torch.Tensor:
    """Return ``norm(x + f(x))``, or ``x + f(norm(x))``, f being two linear layers with an activation between them.

    Parameters
    ----------
    x : (T, D) float32, contiguous.
    up, down : :func:`quantize_weight` of the weights (hidden, D) and (D, hidden).
    up_bias, down_bias : (hidden,), (D,) float32.
    activation : what is applied between them.
    norm : weight (D,), bias (D,) and epsilon of the layer normalisation.
    norm_first : whether it stands in front of f.

    Returns
    -------
    (T, D) float32, bit for bit what :func:`linear_quantized` and :func:`add_layer_norm` give one after the other.

    Raises
    ------
    ValueError
        If the shapes or the name of the activation do not fit.
    """
    if x.dim() != 2 or down_bias.shape != x.shape[1:] or norm[0].shape != x.shape[1:] or norm[1].shape != x.shape[1:]:
        raise ValueError(
            f"mlp_quantized: got x {tuple(x.shape)}, down_bias {tuple(down_bias.shape)}, "
            f"norm {tuple(norm[0].shape)}, {tuple(norm[1].shape)}; expected (T, D) and (D,) three times"
        )
    check_quantized("mlp_quantized: up", x.shape[1], up, up_bias, activation)
    check_quantized("mlp_quantized: down", len(up_bias), down, down_bias, activation)
    check_alike("mlp_quantized", up, down)
    return _mlp_quantized(x, *up, up_bias, *down, down_bias, activation, *norm, norm_first)  # type: ignore[no-any-return]
