"""The feed-forward block of transformers on bytes: two :func:`linear_int8` with an activation between them, in one op.

Source: Vaswani et al., *Attention Is All You Need* (2017), https://arxiv.org/abs/1706.03762.
"""

from __future__ import annotations

import torch

from coldpress.ops._define import define
from coldpress.ops.linear import Activation
from coldpress.ops.linear_int8 import PackedInt8, check_int8, linear_int8_reference


def mlp_int8_reference(
    x: torch.Tensor,
    up: torch.Tensor,
    up_columns: torch.Tensor,
    up_bias: torch.Tensor,
    down: torch.Tensor,
    down_columns: torch.Tensor,
    down_bias: torch.Tensor,
    activation: str,
) -> torch.Tensor:
    """Plain torch."""
    hidden = linear_int8_reference(x, up, up_columns, up_bias, activation)
    return linear_int8_reference(hidden, down, down_columns, down_bias, "none")


def _fake(
    x: torch.Tensor,
    up: torch.Tensor,
    up_columns: torch.Tensor,
    up_bias: torch.Tensor,
    down: torch.Tensor,
    down_columns: torch.Tensor,
    down_bias: torch.Tensor,
    activation: str,
) -> torch.Tensor:
    return x.new_empty(x.shape[0], down_bias.shape[0])


_mlp_int8 = define(
    "mlp_int8(Tensor x, Tensor up, Tensor up_columns, Tensor up_bias, Tensor down, Tensor down_columns, "
    "Tensor down_bias, str activation) -> Tensor",
    reference=mlp_int8_reference,
    fake=_fake,
)


def mlp_int8(
    x: torch.Tensor,
    up: PackedInt8,
    up_bias: torch.Tensor,
    down: PackedInt8,
    down_bias: torch.Tensor,
    activation: Activation,
) -> torch.Tensor:
    """Return ``linear_int8(linear_int8(x, up, up_bias, activation), down, down_bias)``, bit for bit.

    Parameters
    ----------
    x : (M, D) float32, contiguous.
    up, down : :func:`pack_weight_int8` of the weights (hidden, D) and (N, hidden).
    up_bias, down_bias : (hidden,), (N,) float32.
    activation : what is applied between them.

    Returns
    -------
    (M, N) float32.

    Raises
    ------
    ValueError
        If the shapes or the name of the activation do not fit.
    """
    if x.dim() != 2:
        raise ValueError(f"mlp_int8: got x {tuple(x.shape)}, expected (M, K)")
    check_int8("mlp_int8: up", x.shape[1], up, up_bias, activation)
    check_int8("mlp_int8: down", len(up_bias), down, down_bias, activation)
    return _mlp_int8(x, *up, up_bias, *down, down_bias, activation)  # type: ignore[no-any-return]
