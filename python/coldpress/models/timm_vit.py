"""timm's names: which architectures are plain vision transformers, and what its checkpoints call their tensors.

A name such as ``vit_base_patch16_224`` says the sizes; ``model_args`` of a timm ``config.json`` change them.

Source: https://github.com/huggingface/pytorch-image-models/blob/v1.0.22/timm/models/vision_transformer.py and, for
DINOv3, eva.py beside it (Apache-2.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch

from coldpress.errors import ModelError
from coldpress.models.names import activation_named
from coldpress.models.tensor_names import BlockNames
from coldpress.models.vision import VisionConfig, VisionNames

TIMM, EVA = "timm", "timm_eva"
"""Naming schemes of checkpoints: timm has a class of its own for DINOv3."""

ARCHITECTURES = (
    r"(?P<kind>vit|deit3?)_(?P<size>tiny|small(_plus)?|base|large|huge(_plus)?|giant(opt)?|so400m|7b)"
    r"(?P<distilled>_distilled)?_patch(?P<patch>\d+)(_reg(?P<registers>\d+))?"
    r"(_(?P<variant>dinov2|dinov3|clip|siglip)(?P<more>_quickgelu|_qkvb|_gap)?)?(_(?P<image>\d+))?"
)
IGNORED = (r"head\.", r"head_dist\.")

_SIZES: Mapping[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 192, "depth": 12, "num_heads": 3},
    "small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "large": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
    "huge": {"embed_dim": 1280, "depth": 32, "num_heads": 16},
    "giant": {"embed_dim": 1408, "depth": 40, "num_heads": 16, "mlp_ratio": 48 / 11},
    "small_plus": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "huge_plus": {"embed_dim": 1280, "depth": 32, "num_heads": 20},
    "7b": {"embed_dim": 4096, "depth": 40, "num_heads": 32, "mlp_ratio": 2.0},
    "so400m": {"embed_dim": 1152, "depth": 27, "num_heads": 16, "mlp_ratio": 3.7362},
    "giantopt": {"embed_dim": 1536, "depth": 40, "num_heads": 16},
}
_DINOV2_GIANT = {"embed_dim": 1536, "num_heads": 24, "mlp_ratio": 2.66667 * 2}  # SwiGLU, both halves in one
_KNOWN = {
    "img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias", "init_values", "class_token",
    "reg_tokens", "no_embed_class", "pre_norm", "global_pool", "fc_norm", "act_layer", "num_classes",
    "in_chans", "swiglu_mlp", "rope_temperature",
}  # fmt: skip
_OF_EVA = {"num_reg_tokens": "reg_tokens", "use_fc_norm": "fc_norm"}
"""What the arguments of timm's class for DINOv3 are called in that of all others."""
_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_INCEPTION = {"mean": [0.5] * 3, "std": [0.5] * 3}
_SATELLITE = {"mean": [0.430, 0.411, 0.296], "std": [0.213, 0.156, 0.143]}
_TAGS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "vit_": {"augreg": _INCEPTION, "orig": _INCEPTION, "sam": _INCEPTION, "dino": _IMAGENET, "mae": _IMAGENET},
    "deit_": {"fb_in1k": _IMAGENET},
    "deit3_": {"fb_in1k": _IMAGENET, "fb_in22k_ft_in1k": _IMAGENET | {"crop_pct": 1.0}},
    "vit_dinov2": {"lvd142m": _IMAGENET},
    "vit_dinov3": {"lvd1689m": _IMAGENET, "eupe_lvd1689m": _IMAGENET, "sat493m": _SATELLITE},
    "vit_siglip": {"webli_ft": _INCEPTION | {"crop_pct": 1.0, "crop_mode": "squash"},
                   "webli": _INCEPTION | {"crop_pct": 0.9}, "v2_webli": _INCEPTION | {"crop_pct": 0.9}},
}  # fmt: skip
"""How timm's tags begin and what they say about preprocessing, by kind and variant; a single one need not be named."""
_POOLS: Mapping[str, Literal["cls", "mean", "attention"]] = {"token": "cls", "avg": "mean", "map": "attention"}


def read_timm_config(config: Mapping[str, Any]) -> VisionConfig:
    """Read a timm ``config.json``: an architecture and what differs from it.

    Raises
    ------
    ModelError
        For an architecture or an argument that is not known here.
    """
    name = re.fullmatch(ARCHITECTURES, config["architecture"])
    assert name is not None
    variant = name["variant"]
    fused = name["size"] == "giant" and variant == "dinov2"  # both halves of its gated block are one projection
    args = _SIZES[name["size"]] | (_DINOV2_GIANT if fused else {}) | _variant(name)
    if isinstance(pool := config.get("global_pool"), str) and pool:
        args["global_pool"] = pool
    args |= {_OF_EVA.get(key, key): value for key, value in (config.get("model_args") or {}).items()}
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
    hidden, gated = int(width * args["mlp_ratio"]), fused or args["swiglu_mlp"]
    pool_first = args["fc_norm"] if args["fc_norm"] is not None else args["global_pool"] == "avg"
    return VisionConfig(
        width=width,
        depth=args["depth"],
        heads=args["num_heads"],
        hidden=hidden // 2 if fused else hidden,
        patch=patch,
        image_size=image_size,
        special=special,
        registers=registers,
        positioned=0 if args["no_embed_class"] or variant == "dinov3" else special + registers,
        positions=float(args["rope_temperature"]) if variant == "dinov3" else "learned",
        activation="silu" if gated else activation_named(_ACTIVATIONS.get(act, act)),
        eps=1e-5 if variant in ("clip", "dinov3") else 1e-6,
        gated=gated,
        layer_scale=bool(args["init_values"]),
        stem_norm=args["pre_norm"],
        pooling=_POOLS[args["global_pool"]],
        pool_first=pool_first,
        antialias=True,
        layout=EVA if variant == "dinov3" else TIMM,
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
    variant, deit3 = name["variant"], name["kind"] == "deit3"
    giant = name["size"] == "giant" and variant == "dinov2"
    variants: dict[str, dict[str, Any]] = {
        "dinov2": {"img_size": 518, "init_values": 1e-5},
        "dinov3": {"img_size": 256, "init_values": 1e-5, "reg_tokens": 4, "global_pool": "avg", "fc_norm": False,
                   "qkv_bias": name["more"] == "_qkvb",
                   "swiglu_mlp": name["size"] in ("small_plus", "huge_plus", "7b")},
        "clip": {"pre_norm": True, "act_layer": "quick_gelu" if name["more"] else "gelu"},
        "siglip": {"class_token": False, "act_layer": "gelu_tanh" if _tanh_siglip(name) else "gelu"}
        | ({"global_pool": "avg", "fc_norm": False} if name["more"] else {"global_pool": "map"}),
    }  # fmt: skip
    return {
        "img_size": 224,
        "patch_size": int(name["patch"]),
        "mlp_ratio": (_DINOV2_GIANT if giant else _SIZES[name["size"]]).get("mlp_ratio", 4.0),
        "qkv_bias": True,
        "init_values": 1e-5 if deit3 else None,
        "class_token": True,
        "reg_tokens": int(name["registers"] or 0),
        "no_embed_class": deit3 or bool(name["registers"]),
        "pre_norm": False,
        "global_pool": "token",
        "fc_norm": None,
        "act_layer": "gelu",
        "swiglu_mlp": False,
        "rope_temperature": 100.0,
        **variants.get(variant, {}),
        **({"img_size": int(name["image"])} if name["image"] else {}),
    }


def _tanh_siglip(name: re.Match[str]) -> bool:
    """Whether timm gives this size of SigLIP the approximation of GELU that all were trained with."""
    later = {"so400m_16", "base_32", "giantopt_16"}
    return f"{name['size']}_{name['patch']}" in later or (name["size"], name["image"]) == ("large", "512")


def timm_names(config: VisionConfig) -> VisionNames:
    """Return what timm calls the tensors of such a network."""
    eva = config.layout == EVA
    blocks = BlockNames(
        block="blocks.{}",
        qkv=("attn.qkv",),
        out="attn.proj",
        attention_norm="norm1",
        mlp_norm="norm2",
        up="mlp.fc1_x" if eva and config.gated else "" if config.gated else "mlp.fc1",
        gate="mlp.fc1_g" if eva and config.gated else "",
        gate_up="mlp.fc1" if config.gated and not eva else "",
        down="mlp.fc2",
        scales=(("gamma_1", "gamma_2") if eva else ("ls1.gamma", "ls2.gamma")) if config.layer_scale else None,
        biasless=config.biasless,
    )
    pool = {"qkv": ["q", "kv"], "out": ["proj"], "norm": ["norm"], "mlp.up": ["mlp.fc1"], "mlp.down": ["mlp.fc2"]}
    return VisionNames(
        blocks=blocks,
        patch="patch_embed.proj",
        special=("cls_token", "dist_token")[: config.special],
        registers="reg_token" if config.registers else "",
        positions="pos_embed",
        norm="fc_norm" if config.pool_first else "norm",
        stem_norm="norm_pre",
        probe="attn_pool.latent",
        pool={f"pool.{ours}": [f"attn_pool.{part}" for part in parts] for ours, parts in pool.items()}
        if config.pooling == "attention"
        else {},
    )


def fuse_biases(tensors: dict[str, torch.Tensor], config: VisionConfig) -> dict[str, torch.Tensor]:
    """Join the biases of queries and values, which timm's class for DINOv3 has apart, with the keys' of zero."""
    out = dict(tensors)
    for block in (f"blocks.{i}.attn" for i in range(config.depth if config.layout == EVA else 0)):
        if f"{block}.q_bias" in out and f"{block}.v_bias" in out:
            q, v = out.pop(f"{block}.q_bias"), out.pop(f"{block}.v_bias")
            out[f"{block}.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    return out


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
    variant = f"{name['variant'] or ''}{'_gap' if name['more'] == '_gap' else ''}"
    tags = _TAGS.get(f"{name['kind']}_{variant}", {})
    fitting = [cfg for start, cfg in tags.items() if tag.startswith(start) or (not tag and len(tags) == 1)]
    if not fitting:
        known = f"timm's tag behind a dot ({', '.join(tags)})" if tags else "a directory with timm's config.json"
        raise ModelError(
            f"the preprocessing of {architecture} depends on its weights; got {tag or 'no tag'}, expected {known}"
        )
    found = fitting[0]
    crop = found.get("crop_pct", 0.9 if side <= 224 else 1.0)
    return {"input_size": [3, side, side], "interpolation": "bicubic", **found, "crop_pct": crop}
