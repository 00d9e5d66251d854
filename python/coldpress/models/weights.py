"""Reading checkpoints safely and putting every tensor where it belongs, exactly once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from coldpress.errors import ModelError
from coldpress.models.base import WeightMap

_SAFE, _SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED = "pytorch_model.bin"


def read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a checkpoint directory: safetensors, else a pickle that holds nothing but tensors.

    Raises
    ------
    ModelError
        If there is no weight file, if it is damaged, or if a pickle holds code.
    """
    if (directory / _SAFE_INDEX).is_file():
        shards = json.loads((directory / _SAFE_INDEX).read_text())["weight_map"].values()
        names = sorted({Path(shard).name for shard in shards})
    elif (directory / _SAFE).is_file():
        names = [_SAFE]
    elif (directory / _PICKLED).is_file():
        return _read_pickled(directory / _PICKLED)
    else:
        raise ModelError(f"{directory} has no weights; expected {_SAFE}, {_SAFE_INDEX} or {_PICKLED}")
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        try:
            tensors |= load_file(directory / name)
        except FileNotFoundError:
            raise ModelError(f"{directory / name} is missing, though {_SAFE_INDEX} names it") from None
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{directory / name} cannot be read ({error}); is the download complete?") from error
    return tensors


def _read_pickled(path: Path) -> dict[str, torch.Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many types; all mean the same here
        raise ModelError(
            f"{path} is refused: it holds more than tensors, or is damaged ({str(error).splitlines()[0]}). "
            "Convert it to safetensors where you trust it."
        ) from error
    return {name: tensor for name, tensor in loaded.items() if isinstance(tensor, torch.Tensor)}


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def normalise_names(
    tensors: Mapping[str, torch.Tensor], prefixes: Sequence[str], ignored: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Strip the prefix that a task model puts before its backbone, and drop what the backbone does not need."""
    out: dict[str, torch.Tensor] = {}
    for original, tensor in tensors.items():
        name = re.sub(
            r"(LayerNorm)\.(gamma|beta)$", lambda m: f"{m[1]}.{'weight' if m[2] == 'gamma' else 'bias'}", original
        )
        for prefix in prefixes:
            name = name.removeprefix(prefix)
        if not any(re.match(pattern, name) for pattern in ignored):
            out[name] = tensor
    return out


def assign(model: nn.Module, names: WeightMap, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy every tensor into the parameter it belongs to.

    Raises
    ------
    ModelError
        One error that lists what is missing, unexpected and mis-shaped.
    """
    parameters = dict(model.named_parameters())
    needed = {part for parts in names.values() for part in parts}
    missing = sorted(needed - tensors.keys())
    unexpected = sorted(tensors.keys() - needed)
    misshaped = []
    with torch.no_grad():
        for ours, parts in names.items():
            if any(part not in tensors for part in parts):
                continue
            value = torch.cat([tensors[part].float() for part in parts])
            if value.shape != parameters[ours].shape:
                misshaped.append(f"{' + '.join(parts)} is {tuple(value.shape)}, not {tuple(parameters[ours].shape)}")
                continue
            parameters[ours].copy_(value)
    problems = [
        f"{what}: {_some(found)}"
        for what, found in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshaped))
        if found
    ]
    if problems:
        raise ModelError(f"the weights do not fit config.json; {'; '.join(problems)}")


def _some(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
