"""Reading checkpoints safely and putting every tensor where it belongs, exactly once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from coldpress.errors import ModelError
from coldpress.models.base import WeightMap

_SAFE_INDEX = "model.safetensors.index.json"
_SAFE = ("model.safetensors", "open_clip_model.safetensors")
_PICKLED = ("pytorch_model.bin", "open_clip_pytorch_model.bin")


def read_tensors(directory: Path, kept: Callable[[str], bool] | None = None) -> dict[str, torch.Tensor]:
    """Read all tensors of a checkpoint directory or file: safetensors, else a pickle that holds nothing but tensors.

    With `kept`, only the tensors of the names for which it is true; of safetensors, no others are read from disk.

    Raises
    ------
    ModelError
        If there is no weight file, if it is damaged, or if a pickle holds code.
    """
    if directory.is_file() and directory.suffix != ".safetensors":
        return _read_pickled(directory, kept)
    if directory.is_file():
        directory, names = directory.parent, [directory.name]
    elif (directory / _SAFE_INDEX).is_file():
        names = _read_index(directory / _SAFE_INDEX)
    elif safe := [name for name in _SAFE if (directory / name).is_file()]:
        names = safe[:1]
    elif pickled := [name for name in _PICKLED if (directory / name).is_file()]:
        return _read_pickled(directory / pickled[0], kept)
    else:
        raise ModelError(f"{directory} has no weights; expected {_SAFE[0]}, {_SAFE_INDEX} or {_PICKLED[0]}")
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        try:
            with safe_open(directory / name, framework="pt") as file:
                tensors |= {key: file.get_tensor(key) for key in file.keys() if kept is None or kept(key)}  # noqa: SIM118
        except FileNotFoundError:
            raise ModelError(f"{directory / name} is missing, though {_SAFE_INDEX} names it") from None
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{directory / name} cannot be read ({error}); is the download complete?") from error
    return tensors


def _read_index(path: Path) -> list[str]:
    """Read which files hold the tensors of a checkpoint that is split."""
    try:
        shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        return sorted({Path(shard).name for shard in shards})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read: {error!r}; expected a weight_map of tensors to files") from error


def _read_pickled(path: Path, kept: Callable[[str], bool] | None) -> dict[str, torch.Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many types; all mean the same here
        raise ModelError(
            f"{path} is refused: it holds more than tensors, or is damaged ({str(error).splitlines()[0]}). "
            "Convert it to safetensors where you trust it."
        ) from error
    if isinstance(loaded, dict):  # training scripts put the tensors beside their own state
        loaded = next((loaded[key] for key in ("state_dict", "model") if isinstance(loaded.get(key), dict)), loaded)
    if not isinstance(loaded, dict):
        raise ModelError(f"{path} holds a {type(loaded).__name__}, expected a dict of tensors by name")
    tensors = {name: tensor for name, tensor in loaded.items() if isinstance(tensor, torch.Tensor)}
    return {name: tensor for name, tensor in tensors.items() if kept is None or kept(name)}


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
            if wrong := _misfits(parts, tensors, parameters[ours].shape):
                misshaped += wrong
                continue
            parameters[ours].copy_(torch.cat([tensors[part].float() for part in parts]))
    problems = [
        f"{what}: {first_few(found)}"
        for what, found in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshaped))
        if found
    ]
    if problems:
        raise ModelError(f"the weights do not fit config.json; {'; '.join(problems)}")


def expect_shapes(tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check tensors that a family is about to reshape; those that are not there are left to :func:`assign`.

    Raises
    ------
    ModelError
        One error that lists all tensors of another shape.
    """
    wrong = [_misfit(name, tensors[name], shape) for name, shape in shapes.items() if name in tensors]
    if any(wrong):
        raise ModelError(f"the weights do not fit config.json; wrong shape: {first_few(filter(None, wrong))}")


def _misfits(parts: Sequence[str], tensors: Mapping[str, torch.Tensor], shape: torch.Size) -> list[str]:
    """Say which of the tensors that make up one parameter keep them from doing so."""
    found = [tensors[part].shape for part in parts]
    if all(f and f[1:] == shape[1:] for f in found) and sum(f[0] for f in found) == shape[0]:
        return []
    expected = (shape[0] // len(parts), *shape[1:])
    return [wrong for part in parts if (wrong := _misfit(part, tensors[part], expected))]


def _misfit(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> str:
    return "" if tensor.shape == shape else f"{name} is {tuple(tensor.shape)}, not {shape}"


def first_few(names: Iterable[str], most: int = 5) -> str:
    """Join names for a message, not more than a reader takes in."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
