"""Attention on GPUs, by what torch brings along.

Sequences of one length go through scaled_dot_product_attention as they lie, cuDNN's kernel first: the fastest on
Hopper up to a thousand tokens. Packed ones of different lengths go through FlashAttention (torch.nn.attention.varlen),
without a split of the keys, which would depend on the batch. What neither has (float32, biases, older GPUs) is padded
to the longest sequence.

Where :func:`coldpress.ops.known_lengths` holds, nothing here waits for the GPU, so that it can be part of a CUDA graph.
Never run on a GPU yet.
"""

from __future__ import annotations

import inspect
import threading
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F

from coldpress.ops._lengths import Lengths, lengths

_choosing = threading.Lock()  # the choice of a kernel is the process's, and several GPUs have a thread each


def varlen_attention_cuda(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    scale: float,
    words: bool,
    bias: torch.Tensor | None = None,
    left: int = -1,
    right: int = -1,
    key_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend; see :func:`coldpress.ops.varlen_attention`. `words` is for CPUs alone."""
    if words:
        raise RuntimeError("varlen_attention: 16-bit integers are for the CPU; expected words=False on a GPU")
    if not len(q):
        return q.new_empty(0, q.shape[1] * q.shape[2])
    same = len(q) == len(k) and cu_seqlens_q is cu_seqlens
    known = lengths() or Lengths(int(cu_seqlens.diff().max()), equal=False)
    asking = known.longest if same else _asking(cu_seqlens_q)
    if known.equal:
        mask = _added(bias, left, right, known.longest, q)
        if key_bias is not None:
            of_keys = key_bias.to(q.dtype).view(-1, 1, 1, known.longest)
            mask = of_keys if mask is None else mask + of_keys
        out = _attend(_cut(q, asking), _cut(k, known.longest), _cut(v, known.longest), mask, scale)
        return out.transpose(1, 2).reshape(len(q), -1)
    if bias is None and key_bias is None and _flash_runs(q):
        return _flash(q, k, v, cu_seqlens, cu_seqlens_q, asking, known.longest, scale, (left, right))
    return _padded(q, k, v, cu_seqlens, cu_seqlens_q, asking, known.longest, scale, (bias, left, right), key_bias)


def _asking(cu_seqlens_q: torch.Tensor) -> int:
    """How many tokens of a sequence ask, at most."""
    return 1 if lengths() is not None else int(cu_seqlens_q.diff().max())


def _cut(t: torch.Tensor, length: int) -> torch.Tensor:
    """Tokens (B * length, H, D) as (B, H, length, D)."""
    return t.view(-1, length, *t.shape[1:]).transpose(1, 2)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float) -> torch.Tensor:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    order = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]  # those that take a mask of any shape
    if mask is None:
        order.insert(0, SDPBackend.FLASH_ATTENTION)
        if q.shape[2] > 1:  # cuDNN may have no plan for a single query, and raises then
            order.insert(0, SDPBackend.CUDNN_ATTENTION)
    with _choosing, sdpa_kernel(order, set_priority=True):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def _added(bias: torch.Tensor | None, left: int, right: int, T: int, like: torch.Tensor) -> torch.Tensor | None:
    """What is added to the scores of T queries (rows) and keys: (1, H or 1, T, T)."""
    if bias is None and (left, right) == (-1, -1):
        return None
    tokens = torch.arange(T, device=like.device)
    behind = tokens[:, None] - tokens
    added = like.new_zeros(1, T, T) if bias is None else bias.to(like.dtype)[:, behind + bias.shape[1] // 2]
    most_left, most_right = (T if side < 0 else side for side in (left, right))
    return added.masked_fill((behind > most_left) | (-behind > most_right), -torch.inf).unsqueeze(0)


@cache
def _varlen() -> tuple[Any, frozenset[str]]:
    """The function of torch with the names of its arguments; none where it is missing, or too old for a window."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None, frozenset()
    names = frozenset(inspect.signature(varlen_attn).parameters)
    return (varlen_attn if {"scale", "window_size"} <= names else None), names


@cache
def _has_flash(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0) and _varlen()[0] is not None


def _flash_runs(q: torch.Tensor) -> bool:
    fits = q.dtype in (torch.float16, torch.bfloat16) and q.shape[2] % 8 == 0 and q.shape[2] <= 256
    return fits and q.is_cuda and _has_flash(q.device)


def _flash(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    asking: int,
    longest: int,
    scale: float,
    window: tuple[int, int],
) -> torch.Tensor:
    attend, names = _varlen()
    options: dict[str, Any] = {"scale": scale, "window_size": window}
    if "num_splits" in names:
        options["num_splits"] = 1
    out: torch.Tensor = attend(q, k, v, cu_seqlens_q, cu_seqlens, asking, longest, **options)
    return out.flatten(1)


def _padded(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    asking: int,
    longest: int,
    scale: float,
    of_pairs: tuple[torch.Tensor | None, int, int],
    key_bias: torch.Tensor | None,
) -> torch.Tensor:
    """The same by gathering every sequence to the length of the longest."""
    keys, absent = _places(cu_seqlens, longest, len(k))
    queries, _ = _places(cu_seqlens_q, asking, len(q))
    mask = q.new_zeros(keys.shape) if key_bias is None else key_bias.to(q.dtype)[keys]
    mask = mask.masked_fill(absent, -torch.inf)[:, None, None, :]
    added = _added(*of_pairs, longest, q)
    out = _attend(
        q[queries].transpose(1, 2),
        k[keys].transpose(1, 2),
        v[keys].transpose(1, 2),
        mask if added is None else mask + added,
        scale,
    )
    tokens = torch.arange(len(q), dtype=torch.int32, device=q.device)
    sequence = torch.searchsorted(cu_seqlens_q, tokens, right=True) - 1
    return out.transpose(1, 2)[sequence, tokens - cu_seqlens_q[sequence]].flatten(1)


def _places(cu_seqlens: torch.Tensor, longest: int, T: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (B, longest) of the tokens of every sequence, and which of them it does not have."""
    within = torch.arange(longest, device=cu_seqlens.device)
    index = (cu_seqlens[:-1, None] + within).clamp(max=T - 1)
    return index, within >= cu_seqlens.diff()[:, None]
