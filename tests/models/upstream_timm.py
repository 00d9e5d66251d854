"""Runs timm in a process of its own: writes tiny models as timm does, with their vectors, and what it makes of photos.

Beside a CPU-only torch, torchvision from PyPI lacks two operators that it needs to import, and transformers fails to
import wherever torchvision does. So timm lies in a folder of its own (COLDPRESS_TIMM), on the path of this process.

Usage: python upstream_timm.py FOLDER OUT, with OUT/request.json.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    _LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms") if torch.version.cuda is None else ():
        _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def write_model(directory: Path, architecture: str, args: dict[str, Any], cfg: dict[str, Any]) -> None:
    """Save a model with random weights as for the hub, and what it makes of random pixels, in float32 and float64."""
    import timm
    from timm.models import save_for_hf

    model = timm.create_model(architecture, pretrained=False, **args).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1.5 * noise / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else 0.3 * noise + 1)
    model.pretrained_cfg = dict(model.pretrained_cfg) | cfg
    save_for_hf(model, str(directory), model_args=args, safe_serialization=True)
    side = cfg["input_size"][1]
    pixels = torch.randint(0, 256, (5, side, side, 3), dtype=torch.uint8, generator=generator)
    np.savez(
        directory / "vectors.npz",
        pixels=pixels.numpy(),
        **{name: _vectors(copy.deepcopy(model).to(dtype), pixels, cfg, dtype) for name, dtype in DTYPES.items()},
    )


DTYPES = {"float32": torch.float32, "float64": torch.float64}


def _vectors(model: Any, pixels: torch.Tensor, cfg: dict[str, Any], dtype: torch.dtype) -> Any:
    values = (pixels.to(dtype) / 255 - torch.tensor(cfg["mean"], dtype=dtype)) / torch.tensor(cfg["std"], dtype=dtype)
    with torch.no_grad():
        tokens = model.forward_features(values.permute(0, 3, 1, 2))
        pooled = tokens[:, 0] if model.global_pool == "token" else model.forward_head(tokens, pre_logits=True)
    return pooled.numpy()


def transform_photos(out: Path, photos: list[str], cfgs: list[dict[str, Any]]) -> None:
    """Save the values that ``create_transform`` makes of photos."""
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    for number, cfg in enumerate(cfgs):
        transform = create_transform(**resolve_data_config(pretrained_cfg=cfg), is_training=False)
        values = [transform(Image.open(photo).convert("RGB")).numpy() for photo in photos]
        np.save(out / f"values-{number}.npy", np.stack(values))


def main() -> None:
    """Do what ``request.json`` asks."""
    out = Path(sys.argv[2])
    request = json.loads((out / "request.json").read_text())
    for model in request["models"]:
        write_model(out / model["name"], model["architecture"], model["args"], model["cfg"])
    transform_photos(out, request["photos"], request["cfgs"])


if __name__ == "__main__":
    main()
