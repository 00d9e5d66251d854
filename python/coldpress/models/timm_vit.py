"""timm's names: which architectures are plain vision transformers, and what its checkpoints call their tensors.

A name such as ``vit_base_patch16_224`` says the sizes; ``model_args`` of a timm ``config.json`` change them.

Source: https://github.com/huggingface/pytorch-image-models/blob/v1.0.22/timm/models/vision_transformer.py (Apache-2.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from coldpress.errors import ModelError
from coldpress.models.names import activation_named
from coldpress.models.tensor_names import BlockNames
from coldpress.models.vision import VisionConfig, VisionNames

LAYOUT = "timm"
ARCHITECTURES = (
    r"(?P<kind>vit|deit3?)_(?P<size>tiny|small|base|large|huge|giant)(?P<distilled>_distilled)?_patch(?P<patch>\d+)"
    r"(_reg(?P<registers>\d+))?(_(?P<variant>dinov2|clip_quickgelu|clip))?(_(?P<image>\d+))?"
)
IGNORED = (r"head\.", r"head_dist\.")

_SIZES: Mapping[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 192, "depth": 12, "num_heads": 3},
    "small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "large": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
    "huge": {"embed_dim": 1280, "depth": 32, "num_heads": 16},
    "giant": {"embed_dim": 1408, "depth": 40, "num_heads": 16, "mlp_ratio": 48 / 11},
}
_DINOV2_GIANT = {"embed_dim": 1536, "num_heads": 24, "mlp_ratio": 2.66667 * 2}  # SwiGLU, both halves in one
_KNOWN = {
    "img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias", "init_values", "class_token",
    "reg_tokens", "no_embed_class", "pre_norm", "global_pool", "fc_norm", "act_layer", "num_classes",
    "in_chans",
}  # fmt: skip
_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_INCEPTION = {"mean": [0.5] * 3, "std": [0.5] * 3}
_TAGS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "vit_": {"augreg": _INCEPTION, "orig": _INCEPTION, "sam": _INCEPTION, "dino": _IMAGENET, "mae": _IMAGENET},
    "deit_": {"fb_in1k": _IMAGENET},
    "deit3_": {"fb_in1k": _IMAGENET, "fb_in22k_ft_in1k": _IMAGENET | {"crop_pct": 1.0}},
    "vit_dinov2": {"lvd142m": _IMAGENET},
}
"""How timm's tags begin and what they say about preprocessing, by kind and variant; a single one need not be named."""
_POOLS: Mapping[str, Literal["cls", "mean"]] = {"token": "cls", "avg": "mean"}


def read_timm_config(config: Mapping[str, Any]) -> VisionConfig:
    """Read a timm ``config.json``: an architecture and what differs from it.

    Raises
    ------
    ModelError
        For an architecture or an argument that is not known here.
    """
    name = re.fullmatch(ARCHITECTURES, config["architecture"])
    assert name is not None
    giant = name["size"] == "giant" and name["variant"] == "dinov2"
    args = _SIZES[name["size"]] | (_DINOV2_GIANT if giant else {}) | _variant(name)
    if isinstance(pool := config.get("global_pool"), str) and pool:
        args["global_pool"] = pool
    args |= config.get("model_args") or {}
    if unknown := sorted(args.keys() - _KNOWN):
        raise ModelError(f"config.json: model_args has {', '.join(unknown)}; expected only {', '.join(sorted(_KNOWN))}")
    if args["global_pool"] not in _POOLS:
        raise ModelError(f"config.json: global_pool {args['global_pool']!r}, expected one of {', '.join(_POOLS)}")
    image_size, patch = (_side(args[key], key) for key in ("img_size", "patch_size"))
    if args.get("in_chans", 3) != 3:
        raise ModelError(f"config.json: in_chans {args['in_chans']}, expected 3")
    special = int(args["class_token"]) + (1 if name["distilled"] else 0)
    registers = args["reg_tokens"]
    act, width = args["act_layer"], args["embed_dim"]
    hidden = int(width * args["mlp_ratio"])
    pool_first = args["fc_norm"] if args["fc_norm"] is not None else args["global_pool"] == "avg"
    return VisionConfig(
        width=width,
        depth=args["depth"],
        heads=args["num_heads"],
        hidden=hidden // 2 if giant else hidden,
        patch=patch,
        image_size=image_size,
        special=special,
        registers=registers,
        positioned=0 if args["no_embed_class"] else special + registers,
        activation="silu" if giant else activation_named(_ACTIVATIONS.get(act, act)),
        eps=1e-5 if name["variant"] in ("clip", "clip_quickgelu") else 1e-6,
        gated=giant,
        layer_scale=bool(args["init_values"]),
        stem_norm=args["pre_norm"],
        pooling=_POOLS[args["global_pool"]],
        pool_first=pool_first,
        antialias=True,
        layout=LAYOUT,
        biasless=(*(() if args["qkv_bias"] else ("attn.qkv",)), *(("patch_embed.proj",) if args["pre_norm"] else ())),
    )


def _side(value: Any, key: str) -> int:
    """Read the side of a square from one number or two equal ones."""
    sides = set(value) if isinstance(value, list) else {value}
    if len(sides) != 1 or not all(isinstance(side, int) for side in sides):
        raise ModelError(f"config.json: {key} {value!r}, expected one number, the side of a square")
    return int(sides.pop())


def _variant(name: re.Match[str]) -> dict[str, Any]:
    """What the rest of the name says, in timm's arguments."""
    dinov2, deit3, variant = name["variant"] == "dinov2", name["kind"] == "deit3", name["variant"] or ""
    return {
        "img_size": int(name["image"] or (518 if dinov2 else 224)),
        "patch_size": int(name["patch"]),
        "mlp_ratio": _SIZES[name["size"]].get("mlp_ratio", 4.0),
        "qkv_bias": True,
        "init_values": 1e-5 if dinov2 or deit3 else None,
        "class_token": True,
        "reg_tokens": int(name["registers"] or 0),
        "no_embed_class": deit3 or bool(name["registers"]),
        "pre_norm": variant.startswith("clip"),
        "global_pool": "token",
        "fc_norm": None,
        "act_layer": "quick_gelu" if variant == "clip_quickgelu" else "gelu",
    } | ({"mlp_ratio": _DINOV2_GIANT["mlp_ratio"]} if name["size"] == "giant" and dinov2 else {})


def timm_names(config: VisionConfig) -> VisionNames:
    """Return what timm calls the tensors of such a network."""
    blocks = BlockNames(
        block="blocks.{}",
        qkv=("attn.qkv",),
        out="attn.proj",
        attention_norm="norm1",
        mlp_norm="norm2",
        up="" if config.gated else "mlp.fc1",
        gate_up="mlp.fc1" if config.gated else "",
        down="mlp.fc2",
        scales=("ls1.gamma", "ls2.gamma") if config.layer_scale else None,
        biasless=config.biasless,
    )
    return VisionNames(
        blocks=blocks,
        patch="patch_embed.proj",
        special=("cls_token", "dist_token")[: config.special],
        registers="reg_token" if config.registers else "",
        positions="pos_embed",
        norm="fc_norm" if config.pool_first else "norm",
        stem_norm="norm_pre",
    )


def pretrained_cfg(architecture: str, tag: str) -> dict[str, Any]:
    """Return the preprocessing that timm's name of an architecture stands for, with the tag behind its dot.

    Raises
    ------
    ModelError
        Where it depends on the weights, and the tag is missing or unknown.
    """
    name = re.fullmatch(ARCHITECTURES, architecture)
    assert name is not None
    side = _variant(name)["img_size"]
    tags = _TAGS.get(f"{name['kind']}_{name['variant'] or ''}", {})
    fitting = [cfg for start, cfg in tags.items() if tag.startswith(start) or (not tag and len(tags) == 1)]
    if not fitting:
        known = f"timm's tag behind a dot ({', '.join(tags)})" if tags else "a directory with timm's config.json"
        raise ModelError(
            f"the preprocessing of {architecture} depends on its weights; got {tag or 'no tag'}, expected {known}"
        )
    found = fitting[0]
    crop = found.get("crop_pct", 0.9 if side <= 224 else 1.0)
    return {"input_size": [3, side, side], "interpolation": "bicubic", **found, "crop_pct": crop}
