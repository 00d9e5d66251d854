"""Decisions that need no data: which outputs, how many items at a time, which of them to certify."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, cast

from coldpress.errors import ColdpressError
from coldpress.types import Item, Modality, ModelInput, Output, TextInput

CHUNK_ITEMS = {"text": 512, "image": 64}
"""Items that travel between the stages at a time: enough to keep every thread busy, few enough to stay small."""

DENSE_CHUNK_TEXTS = 64
"""Where every token keeps its vector: at most 50 MB of them for texts of 512 tokens and vectors of 384 numbers."""

BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}
"""Tokens of text computed at a time, at most.

On a CPU, MiniLM int8 on two threads: 1024 and 2048 take the same CPU time, 512 takes 4 % more, 256 16 % more.
"""

GROUP_CHUNKS = {"text": 16, "image": 8}
"""Chunks that a GPU computes together: 30 batches of 16,384 tokens, 4 of 128 images (77 MB of pixels at 224)."""

BATCH_IMAGES = {"cpu": 8, "cuda": 128}


def parse_outputs(names: str, depth: int, dense: str | None = None) -> tuple[Output, ...]:
    """Read ``pooled,cls,mean,last,layer:3`` for a backbone of `depth` blocks, and ``tokens`` or ``patches``.

    Parameters
    ----------
    dense : what the backbone calls the output that is not pooled; None if it has none.

    Raises
    ------
    ColdpressError
        For an unknown name, something that the backbone does not have, or a name given twice.
    """
    known = ["pooled", "cls", "mean", "last", *(["layer:K"] if depth else []), *([dense] if dense else [])]
    outputs = []
    for name in (part.strip() for part in names.split(",")):
        if match := re.fullmatch(r"layer:(\d+)", name):
            layer = int(match[1])
            if not 1 <= layer <= depth:
                has = f"layers 1 to {depth}" if depth else "no layers"
                raise ColdpressError(f"output {name!r}: this backbone has {has}")
            outputs.append(Output(name, layer, "model"))
        elif name in ("pooled", "cls", "mean", "last"):
            pooling = cast(Literal["model", "cls", "mean", "last"], "model" if name == "pooled" else name)
            outputs.append(Output(name, None, pooling))
        elif name == dense:
            outputs.append(Output(name, None, "none"))
        else:
            raise ColdpressError(f"unknown output {name!r}; this backbone has {', '.join(known)}")
    if len({output.name for output in outputs}) < len(outputs):
        raise ColdpressError(f"output {names!r} names something twice")
    return tuple(outputs)


def check_merged(tokens: int, outputs: Sequence[Output]) -> None:
    """Refuse outputs that take single patches, where some of those are merged into others.

    Raises
    ------
    ColdpressError
        For patches or the last token.
    """
    for output in outputs if tokens else ():
        if output.pooling in ("none", "last"):
            raise ColdpressError(
                f"output {output.name!r} and merge_tokens {tokens}: merged patches have no vectors of their own"
            )


def chunk_size(modality: Modality, outputs: Sequence[Output] = ()) -> int:
    """Items of a chunk."""
    dense = modality == "text" and any(output.dense for output in outputs)
    return DENSE_CHUNK_TEXTS if dense else CHUNK_ITEMS[modality]


def group_size(modality: Modality, device: str) -> int:
    """Chunks that are computed together: a GPU wants several batches at a time, so that they overlap."""
    return GROUP_CHUNKS[modality] if device == "cuda" else 1


def chunk_items(items: Iterable[Item], size: int, start: int, shard_rows: int) -> Iterator[list[Item]]:
    """Cut items, numbered from `start`, into chunks of `size` that never straddle a shard boundary."""
    iterator, at = iter(items), start
    while True:
        room = shard_rows - at % shard_rows
        chunk = list(islice(iterator, min(size, room)))
        if not chunk:
            return
        yield chunk
        at += len(chunk)


def batch_inputs(inputs: Sequence[ModelInput], device: str, threads: int = 1) -> Iterator[Sequence[ModelInput]]:
    """Cut model inputs, in order, into batches of a token budget (text) or of a number of images.

    With several `threads`, each of which takes the next batch when it is free, batches shrink towards the end, down
    to 128 tokens or two images: nobody waits long for the last one.
    """
    costs = [len(item.ids) if isinstance(item, TextInput) else 1 for item in inputs]
    text = bool(inputs) and isinstance(inputs[0], TextInput)
    most, least = (BATCH_TOKENS[device], 128) if text else (BATCH_IMAGES[device], 2)
    begin, size, left, limit = 0, 0, sum(costs), most
    for i, cost in enumerate(costs):
        if i > begin and size + cost > limit:
            yield inputs[begin:i]
            begin, size, left = i, 0, left - size
        if i == begin and threads > 1:
            limit = min(most, max(left // (2 * threads), least))
        size += cost
    if begin < len(inputs):
        yield inputs[begin:]


def sample_size(count: int | None, modality: Modality) -> int:
    """How many items certify a run: 2 % of it, but at least 16 and at most 64 texts or 32 images."""
    most = 64 if modality == "text" else 32
    return most if count is None else min(most, max(16, count // 50))
