"""The most similar patches of each image become one: bipartite soft matching.

Every second patch, from the second on, looks for the one among the others whose key has the greatest cosine with its
own; the pairs with the greatest cosines of an image are merged, of equal ones the first. A patch that received others
is their average, each weighing as much as the patches it stands for. What is left keeps its order.

Source: Bolya et al., *Token Merging: Your ViT But Faster* (ICLR 2023), https://arxiv.org/abs/2210.09461, written from
the paper.
"""

from __future__ import annotations

import itertools

import torch
from torch.nn import functional as F

from coldpress.ops._define import define
from coldpress.ops._lengths import lengths

_UNLIKE = -2.0  # below every cosine: what a key that is not a number has


def merge_tokens_reference(
    x: torch.Tensor, keys: torch.Tensor, sizes: torch.Tensor, cu_seqlens: torch.Tensor, prefix: int, merged: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain torch, one image after the other."""
    parts = []
    for number, (begin, end) in enumerate(itertools.pairwise(cu_seqlens.tolist())):
        _check(number, end - begin, prefix, merged)
        image = slice(begin, end)
        parts.append(_merge_image(x[image], keys[begin + prefix : end], sizes[image], prefix, merged))
    if not parts:
        return x.clone(), sizes.clone()
    rows, counts = zip(*parts, strict=True)
    return torch.cat(rows), torch.cat(counts)


def _merge_image(
    x: torch.Tensor, keys: torch.Tensor, sizes: torch.Tensor, prefix: int, merged: int
) -> tuple[torch.Tensor, torch.Tensor]:
    if not merged:
        return x.clone(), sizes.clone()
    senders = torch.arange(prefix + 1, len(x), 2, device=x.device)
    units = F.normalize(_widened(keys), dim=1, eps=1e-12)
    best, nearest = (units[1::2] @ units[::2].T).nan_to_num(nan=_UNLIKE).max(dim=1)
    sent = best.argsort(descending=True, stable=True)[:merged].sort().values
    sources, targets = senders[sent], prefix + 2 * nearest[sent]
    weighted = _widened(x) * sizes.unsqueeze(1)
    received = torch.arange(len(x), device=x.device).unsqueeze(1) == targets
    sums = weighted + received.to(weighted.dtype) @ weighted[sources]  # on a GPU, index_add has no fixed order
    counts = sizes.index_add(0, targets, sizes[sources])
    rows = torch.where((counts > sizes).unsqueeze(1), (sums / counts.unsqueeze(1)).to(x.dtype), x)
    kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
    kept[sources] = False
    return rows[kept], counts[kept]


def merge_tokens_cuda(
    x: torch.Tensor, keys: torch.Tensor, sizes: torch.Tensor, cu_seqlens: torch.Tensor, prefix: int, merged: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """All images at once where they are known to have equally many tokens: nothing then waits for the GPU.

    Every token is copied once, to where it stays; what was merged is written over it. Never run on a GPU yet.
    """
    known = lengths()
    if known is None or not known.equal:
        return merge_tokens_reference(x, keys, sizes, cu_seqlens, prefix, merged)
    T, B = known.longest, len(cu_seqlens) - 1
    _check(0, T, prefix, merged)
    if not merged:
        return x.clone(), sizes.clone()
    sent, nearest = _matches(keys.view(B, T, keys.shape[1])[:, prefix:], merged)
    sources, targets = prefix + 2 * sent + 1, prefix + 2 * nearest
    image = torch.arange(B, device=x.device).unsqueeze(1)
    rows, counts = _averages(x, sizes, T * image + sources, T * image + targets)

    staying = torch.arange(T - merged, device=x.device).unsqueeze(1)
    in_front = sources - torch.arange(merged, device=x.device)  # of a source, among those that stay
    kept = T * image + staying.T + (in_front.unsqueeze(1) <= staying).sum(2)
    places = (T - merged) * image + targets - (sources.unsqueeze(1) < targets.unsqueeze(2)).sum(2)
    left, left_sizes = x[kept.flatten()], sizes[kept.flatten()]
    left[places.flatten()] = rows.flatten(0, 1)
    left_sizes[places.flatten()] = counts.flatten()
    return left, left_sizes


def _matches(keys: torch.Tensor, merged: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of keys (B, patches, W): which senders go, in order, and to which receivers, (B, merged) twice."""
    units = F.normalize(_widened(keys), dim=2, eps=1e-12)
    best, nearest = (units[:, 1::2] @ units[:, ::2].mT).nan_to_num(nan=_UNLIKE).max(dim=2)
    sent = best.argsort(dim=1, descending=True, stable=True)[:, :merged].sort(dim=1).values
    return sent, nearest.gather(1, sent)


def _averages(
    x: torch.Tensor, sizes: torch.Tensor, sources: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the target of each source (B, merged) becomes, and its size; of sources with one target the same bits."""
    together = targets.unsqueeze(2) == targets.unsqueeze(1)
    given, own = (_widened(x[rows]) * sizes[rows].unsqueeze(2) for rows in (sources, targets))
    sums = torch.baddbmm(own, together.to(given.dtype), given)
    counts = sizes[targets] + (together * sizes[sources].unsqueeze(1)).sum(2, dtype=torch.int32)
    rows = (sums / counts.unsqueeze(2)).to(x.dtype)
    return rows.take_along_dim(together.byte().argmax(2).unsqueeze(2), dim=1), counts


def _widened(t: torch.Tensor) -> torch.Tensor:
    return t.to(torch.promote_types(t.dtype, torch.float32))


def _check(number: int, tokens: int, prefix: int, merged: int) -> None:
    if tokens < prefix + 2 * merged:
        raise RuntimeError(
            f"coldpress::merge_tokens: sequence {number} has {tokens} tokens, expected at least {prefix + 2 * merged}"
        )


def _fake(
    x: torch.Tensor, keys: torch.Tensor, sizes: torch.Tensor, cu_seqlens: torch.Tensor, prefix: int, merged: int
) -> tuple[torch.Tensor, torch.Tensor]:
    left = x.shape[0] - merged * (cu_seqlens.shape[0] - 1)
    return x.new_empty(left, x.shape[1]), sizes.new_empty(left)


_merge_tokens = define(
    "merge_tokens(Tensor x, Tensor keys, Tensor sizes, Tensor cu_seqlens, int prefix, int merged) -> (Tensor, Tensor)",
    reference=merge_tokens_reference,
    fake=_fake,
    cuda=merge_tokens_cuda,
)


def merge_tokens(
    x: torch.Tensor,
    keys: torch.Tensor,
    sizes: torch.Tensor,
    cu_seqlens: torch.Tensor,
    *,
    prefix: int,
    merged: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge `merged` patches of each image into others.

    Parameters
    ----------
    x : (T, D) float32, on a GPU float16 and bfloat16 too, contiguous: the tokens of all images one after the other.
    keys : (T, W) float32, contiguous: what tokens are compared by.
    sizes : (T,) int32: how many patches each token stands for.
    cu_seqlens : (B + 1,) int32, image b is tokens ``cu_seqlens[b]:cu_seqlens[b + 1]``.
    prefix : tokens in front of the patches of each image, left as they are.
    merged : how many patches of each image go into others, at most half of them.

    Returns
    -------
    The tokens that are left, (T - B * merged, D), and their sizes. An image depends on itself alone, bit for bit; on a
    GPU in batches of one shape, where :func:`coldpress.ops.known_lengths` says that images are equally long.

    Raises
    ------
    ValueError, RuntimeError
        If the shapes do not fit, or an image has less than ``prefix + 2 * merged`` tokens.
    """
    fit = x.dim() == keys.dim() == 2 and len(x) == len(keys) and sizes.shape == (len(x),)
    if not fit or sizes.dtype != torch.int32 or cu_seqlens.dtype != torch.int32 or cu_seqlens.dim() != 1:
        raise ValueError(
            f"merge_tokens: got x {tuple(x.shape)}, keys {tuple(keys.shape)}, sizes {sizes.dtype} "
            f"{tuple(sizes.shape)}, cu_seqlens {cu_seqlens.dtype} {tuple(cu_seqlens.shape)}; "
            "expected (T, D), (T, W), int32 (T,), int32 (B + 1,)"
        )
    if prefix < 0 or merged < 0:
        raise ValueError(f"merge_tokens: got prefix {prefix}, merged {merged}; expected 0 or more")
    return _merge_tokens(x, keys, sizes, cu_seqlens, prefix, merged)  # type: ignore[no-any-return]
