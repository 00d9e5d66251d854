"""Where each packed token stands: which token its sequence begins with, and how far behind that it is."""

from __future__ import annotations

import torch

from coldpress.ops._define import define


def token_places_reference(cu_seqlens: torch.Tensor, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain torch; waits for no GPU."""
    begins = cu_seqlens[:-1].repeat_interleave(cu_seqlens.diff(), output_size=tokens).long()
    return begins, torch.arange(tokens, device=begins.device) - begins


def _fake(cu_seqlens: torch.Tensor, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    made = cu_seqlens.new_empty(tokens, dtype=torch.int64)
    return made, torch.empty_like(made)


_token_places = define(
    "token_places(Tensor cu_seqlens, int tokens) -> (Tensor, Tensor)",
    reference=token_places_reference,
    fake=_fake,
    compiled=("CUDA",),
)


def token_places(cu_seqlens: torch.Tensor, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first token of the sequence of each token, and its place in there, (T,) int64 both.

    Parameters
    ----------
    cu_seqlens : (B + 1,) int32, sequence b is tokens ``cu_seqlens[b]:cu_seqlens[b + 1]``.
    tokens : T, the last of them.

    Raises
    ------
    ValueError
        If `cu_seqlens` is not an int32 vector, or `tokens` negative.
    """
    if cu_seqlens.dim() != 1 or cu_seqlens.dtype != torch.int32 or not len(cu_seqlens) or tokens < 0:
        raise ValueError(
            f"token_places: got cu_seqlens {cu_seqlens.dtype} {tuple(cu_seqlens.shape)}, tokens {tokens}; "
            "expected int32 (B + 1,), 0 or more"
        )
    return _token_places(cu_seqlens, tokens)  # type: ignore[no-any-return]
