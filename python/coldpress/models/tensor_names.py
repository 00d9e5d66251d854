"""How checkpoints call the tensors of transformer blocks, as data: one instance a naming scheme."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

ABSENT = "[absent]"
"""Ends the name of a bias that the checkpoint does not have while its neighbours in a fused projection do."""


@dataclass(frozen=True)
class BlockNames:
    """Tensors of block number {} below `block`.

    `qkv` has one part or three. `gate_up` is a projection with the gate in its first half; `gate` a separate one.
    `biasless` are those of the parts that have no bias. A part that ends in an underscore is joined to ``weight`` and
    ``bias`` without a dot.
    """

    block: str
    qkv: tuple[str, ...]
    out: str
    attention_norm: str
    mlp_norm: str
    down: str
    up: str = ""
    gate: str = ""
    gate_up: str = ""
    scales: tuple[str, str] | None = None
    biasless: tuple[str, ...] = ()


def tensor(part: str, kind: str) -> str:
    """Name of the weight or bias of a part."""
    return f"{part}{kind}" if part.endswith("_") else f"{part}.{kind}"


def map_modules(modules: Mapping[str, Sequence[str]], biasless: Sequence[str] = ()) -> dict[str, Sequence[str]]:
    """From modules of ours, and the parts they are joined from, to parameters."""
    names: dict[str, Sequence[str]] = {}
    for ours, parts in modules.items():
        names[f"{ours}.weight"] = [tensor(part, "weight") for part in parts]
        bare = [part in biasless for part in parts]
        if not all(bare):
            biases = [tensor(part, "bias") for part in parts]
            names[f"{ours}.bias"] = [b + ABSENT if none else b for b, none in zip(biases, bare, strict=True)]
    return names


def map_blocks(names: BlockNames, depth: int) -> dict[str, Sequence[str]]:
    """Where each parameter of ``blocks.0`` .. comes from, after :func:`adapt_blocks`."""
    out: dict[str, Sequence[str]] = {}
    inner = {
        "attention.qkv": names.qkv,
        "attention.out": (names.out,),
        "attention_norm": (names.attention_norm,),
        "mlp_norm": (names.mlp_norm,),
        "mlp.down": (names.down,),
        "mlp.up": (names.up,),
        "mlp.gate": (names.gate,),
    }
    for i in range(depth):
        theirs = names.block.format(i)
        out |= {
            f"blocks.{i}.{name}": [f"{theirs}.{part}" for part in parts]
            for name, parts in map_modules({k: v for k, v in inner.items() if v[0]}, names.biasless).items()
        }
        for half, kind in _halves(names):
            out[f"blocks.{i}.mlp.{half}.{kind}"] = [f"{theirs}.{tensor(names.gate_up, kind)}[{half}]"]
        for ours, scale in zip(("attention_scale", "mlp_scale"), names.scales or (), strict=False):
            out[f"blocks.{i}.{ours}"] = [f"{theirs}.{scale}"]
    return out


def _halves(names: BlockNames) -> list[tuple[str, str]]:
    kinds = ("weight",) if names.gate_up in names.biasless else ("weight", "bias")
    return [(half, kind) for half in ("gate", "up") for kind in kinds] if names.gate_up else []


def adapt_blocks(tensors: dict[str, torch.Tensor], names: BlockNames, depth: int) -> None:
    """Split fused gates and fill in biases that are zero, in place; shapes were checked."""
    for name in _gates(names, depth):
        if name in tensors:
            tensors[f"{name}[gate]"], tensors[f"{name}[up]"] = tensors.pop(name).chunk(2)
    for i in range(depth):
        for part in names.qkv if any(part not in names.biasless for part in names.qkv) else ():
            name = f"{names.block.format(i)}.{part}"
            if part in names.biasless and (weight := tensors.get(tensor(name, "weight"))) is not None:
                tensors[tensor(name, "bias") + ABSENT] = torch.zeros(len(weight))


def fused_gate_shapes(names: BlockNames, depth: int, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Shapes, in a checkpoint, of the tensors that :func:`adapt_blocks` splits."""
    return {name: (2 * hidden, width) if name.endswith("weight") else (2 * hidden,) for name in _gates(names, depth)}


def _gates(names: BlockNames, depth: int) -> Iterator[str]:
    for i in range(depth if names.gate_up else 0):
        for kind in ("weight", "bias"):
            yield f"{names.block.format(i)}.{tensor(names.gate_up, kind)}"
