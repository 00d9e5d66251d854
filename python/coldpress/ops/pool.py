"""From token vectors to one vector a sequence: pool, L2-normalise and cast in one pass."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch.nn import functional as F

from coldpress.ops._define import define

Pooling = Literal["mean", "cls", "last"]

_BLOCK = 32  # tokens, as in csrc/cpu/pool.cpp


def _sums(tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Sum (B, D) each sequence by blocks of tokens, then the blocks: in one go, rounding grows with the length."""
    blocks = -(-lengths // _BLOCK)
    of_blocks = torch.full((int(blocks.sum()),), _BLOCK, device=lengths.device)
    of_blocks[blocks.cumsum(0) - 1] = lengths - (blocks - 1) * _BLOCK
    partial = torch.segment_reduce(tokens, "sum", lengths=of_blocks, axis=0)
    return torch.segment_reduce(partial, "sum", lengths=blocks, axis=0)


def pool_reference(
    tokens: torch.Tensor,
    cu_seqlens: torch.Tensor,
    pooling: str,
    normalize: bool,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Plain torch, sums in float32 at least."""
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    begins, ends = cu_seqlens[:-1].long(), cu_seqlens[1:].long()
    if not len(ends):  # segment_reduce refuses it
        pooled = tokens
    elif pooling == "mean":
        lengths = (ends - begins).to(tokens.device)
        pooled = _sums(tokens, lengths) / lengths.unsqueeze(1)
    else:
        pooled = tokens[begins if pooling == "cls" else ends - 1]
    return (F.normalize(pooled, dim=1) if normalize else pooled).to(dtype)


def _fake(
    tokens: torch.Tensor,
    cu_seqlens: torch.Tensor,
    pooling: str,
    normalize: bool,
    dtype: torch.dtype,
) -> torch.Tensor:
    return tokens.new_empty(cu_seqlens.shape[0] - 1, tokens.shape[1], dtype=dtype)


_pool = define(
    "pool(Tensor tokens, Tensor cu_seqlens, str pooling, bool normalize, ScalarType dtype) -> Tensor",
    reference=pool_reference,
    fake=_fake,
    compiled=("CPU", "CUDA"),
)


def pool(
    tokens: torch.Tensor,
    cu_seqlens: torch.Tensor,
    pooling: Pooling,
    *,
    normalize: bool = False,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Pool each sequence of a packed batch.

    Parameters
    ----------
    tokens : (T, D) float32, on a GPU float16 and bfloat16 too.
    cu_seqlens : (B + 1,) int32 bounds; no sequence may be empty.
    pooling : mean of the tokens, the first (``cls``) or the last one.
    normalize : divide by the L2 norm (at least 1e-12).
    dtype : float32, float16 or bfloat16.

    Returns
    -------
    (B, D) in `dtype`.

    Raises
    ------
    ValueError
        If the shapes, the dtypes or the name of the pooling do not fit.
    """
    if tokens.dim() != 2 or cu_seqlens.dim() != 1 or cu_seqlens.dtype != torch.int32:
        raise ValueError(
            f"pool: got tokens {tuple(tokens.shape)}, cu_seqlens {cu_seqlens.dtype} {tuple(cu_seqlens.shape)}; "
            "expected (T, D), int32 (B + 1,)"
        )
    if pooling not in get_args(Pooling):
        raise ValueError(f"pool: got pooling {pooling!r}, expected one of {', '.join(get_args(Pooling))}")
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"pool: got dtype {dtype}, expected float32, float16 or bfloat16")
    return _pool(tokens, cu_seqlens, pooling, normalize, dtype)  # type: ignore[no-any-return]
