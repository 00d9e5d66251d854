"""Plain vision transformers: ViT, DeiT, DINOv2 with and without registers.

One pre-norm encoder; the variants differ in prefix tokens, in layer scale (folded into the weights when loading)
and in the feed-forward block. The vector is the class token after the final normalisation.

Source: Dosovitskiy et al. (2020), https://arxiv.org/abs/2010.11929; Touvron et al., *DeiT* (2020),
https://arxiv.org/abs/2012.12877; Oquab et al., *DINOv2* (2023), https://arxiv.org/abs/2304.07193; Darcet et al.,
*Registers* (2023), https://arxiv.org/abs/2309.16588. Weights as in
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/dinov2/modeling_dinov2.py (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from coldpress import ops
from coldpress.errors import ModelError
from coldpress.layers import LayerNorm, Mlp, PatchEmbedding, SelfAttention, SwiGlu, interpolate_positions
from coldpress.models.base import Backbone, WeightMap, pool_tokens, rows_wanted
from coldpress.models.names import activation_named, required
from coldpress.models.weights import expect_shapes
from coldpress.types import Batch, ImageBatch, ImageSpec, Output, Spec

MODEL_TYPES = frozenset({"vit", "deit", "dinov2", "dinov2_with_registers"})
PREFIXES = ("vit.", "deit.", "dinov2.", "dinov2_with_registers.")
_POSITIONS, _REGISTERS = "embeddings.position_embeddings", "embeddings.register_tokens"
_PATCHES = "embeddings.patch_embeddings.projection"
IGNORED = (r"pooler\.", r"classifier\.", r"cls_classifier\.", r"distillation_classifier\.", r"embeddings\.mask_token")
_POSITIONS = "embeddings.position_embeddings"
_PROJECTION = "embeddings.patch_embeddings.projection.weight"


@dataclass(frozen=True)
class Config:
    """Sizes of the encoder; `special` names the prefix tokens in order."""

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    image_size: int
    special: tuple[str, ...] = ("cls_token",)
    registers: int = 0
    activation: ops.Activation = "gelu"
    eps: float = 1e-12
    layer_scale: bool = False
    swiglu: bool = False
    qkv_bias: bool = True
    dino_names: bool = False
    antialias: bool = False

    @property
    def prefix(self) -> int:
        """Tokens in front of the patches."""
        return len(self.special) + self.registers

    @classmethod
    def base16(cls) -> Config:
        """ViT-B/16 at 224 pixels."""
        return cls(width=768, depth=12, heads=12, hidden=3072, patch=16, image_size=224)


def read_config(config: Mapping[str, Any], pooling: ops.Pooling, *, normalize: bool) -> Config:
    """Read a Hugging Face ``config.json``."""
    kind, width = config["model_type"], required(config, "hidden_size")
    for key in ("image_size", "patch_size"):
        if not isinstance(required(config, key), int):
            raise ModelError(f"config.json: {key} {config[key]!r}, expected one number, the side of a square")
    if config.get("num_channels", 3) != 3:
        raise ModelError(f"config.json: num_channels {config['num_channels']}, expected 3")
    dino = kind.startswith("dinov2")
    swiglu = bool(config.get("use_swiglu_ffn", False))
    hidden = int(width * config.get("mlp_ratio", 4)) if dino else required(config, "intermediate_size")
    return Config(
        width=width,
        depth=required(config, "num_hidden_layers"),
        heads=required(config, "num_attention_heads"),
        hidden=(int(hidden * 2 / 3) + 7) // 8 * 8 if swiglu else hidden,
        patch=required(config, "patch_size"),
        image_size=required(config, "image_size"),
        special=("cls_token", "distillation_token") if kind == "deit" else ("cls_token",),
        registers=config.get("num_register_tokens", 0),
        activation=activation_named(config.get("hidden_act", "gelu")),
        eps=config.get("layer_norm_eps", 1e-6 if dino else 1e-12),
        layer_scale=dino,
        swiglu=swiglu,
        qkv_bias=config.get("qkv_bias", True),
        dino_names=dino,
        antialias=kind == "dinov2_with_registers",
    )


class Block(nn.Module):
    """Normalisation, then attention or feed-forward, then the residual."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.width, config.eps)
        self.attention = SelfAttention(config.width, config.heads)
        self.mlp_norm = LayerNorm(config.width, config.eps)
        self.mlp: SwiGlu | Mlp = (
            SwiGlu(config.width, config.hidden)
            if config.swiglu
            else Mlp(config.width, config.hidden, config.activation)
        )
        if config.layer_scale:  # folded into the layer in front by fold_layer_scale, then dropped
            self.attention_scale = nn.Parameter(torch.ones(config.width), requires_grad=False)
            self.mlp_scale = nn.Parameter(torch.ones(config.width), requires_grad=False)

    def forward(self, x: torch.Tensor, cu_seqlens: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        """Map tokens (T, D) to (T, D), or to (B, D): `rows`, one of each sequence."""
        if self.attention.qkv.quantized is None:  # the residual of one half rides with the normalisation of the other
            mixed = self.attention(self.attention_norm(x), cu_seqlens, rows)
            normed, x = self.mlp_norm.add(mixed, x if rows is None else x[rows])
            out: torch.Tensor = self.mlp(normed) + x
            return out
        x = self.attention.residual(x, cu_seqlens, self.attention_norm, norm_first=True, rows=rows)
        return self.mlp.residual(x, self.mlp_norm, norm_first=True)

    def fold_layer_scale(self) -> None:
        """Multiply the layer scales into the projections that they follow."""
        for scale, linear in ((self.attention_scale, self.attention.out), (self.mlp_scale, self.mlp.down)):
            linear.weight.mul_(scale.unsqueeze(1))
            linear.bias.mul_(scale)
        del self.attention_scale, self.mlp_scale


class Vit(Backbone):
    """The encoder without its task heads."""

    modality = "image"
    pooling: ops.Pooling = "cls"
    normalize = False
    precisions = ("fp32", "int16", "int8")

    def __init__(self, config: Config, spec: ImageSpec) -> None:
        super().__init__()
        self.config, self.width, self.depth = config, config.width, config.depth
        grid = _grid(config, spec)
        self.embed = PatchEmbedding(config.width, config.patch, config.prefix, grid, *spec.scale_shift)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = LayerNorm(config.width, config.eps)

    def forward(self, batch: Batch, outputs: Sequence[Output]) -> dict[str, torch.Tensor]:
        """Return each output as (B, D) float32."""
        assert isinstance(batch, ImageBatch)
        x = self.embed(batch.pixels)
        tokens = len(x) // max(len(batch), 1)
        cu_seqlens = torch.arange(len(batch) + 1, dtype=torch.int32, device=x.device) * tokens
        wanted = {output.layer for output in outputs}
        last = self.depth if None in wanted else max(layer for layer in wanted if layer is not None)
        rows = rows_wanted(outputs, last, cu_seqlens, self)
        layers: dict[int | None, torch.Tensor] = {}
        for number, block in enumerate(self.blocks[:last], start=1):
            x = block(x, cu_seqlens, rows if number == last else None)
            if number in wanted:
                layers[number] = x
        if None in wanted:
            layers[None] = self.norm(x)
        return {o.name: pool_tokens(layers[o.layer], cu_seqlens, o, self, self.config.prefix) for o in outputs}

    def prepare(self, precision: str = "fp32", layer_precision: Mapping[str, str] | None = None) -> None:
        """Fold the layer scales, then pack."""
        with torch.no_grad():
            for block in self.blocks:
                if isinstance(block, Block) and hasattr(block, "attention_scale"):
                    block.fold_layer_scale()
        super().prepare(precision, layer_precision)


def _grid(config: Config, spec: ImageSpec) -> tuple[int, int]:
    if spec.size is None or any(side % config.patch for side in spec.size):
        raise ModelError(
            f"preprocessor_config.json makes images of {spec.size or 'varying size'}; "
            f"expected a fixed multiple of the patch size {config.patch}: give it a crop_size or a height and width"
        )
    return spec.size[0] // config.patch, spec.size[1] // config.patch


def build(config: Config, spec: Spec) -> Vit:
    """Make the backbone, its weights still empty."""
    assert isinstance(spec, ImageSpec)
    return Vit(config, spec)


def describe(config: Config) -> dict[str, Any]:
    """What of the configuration belongs into the fingerprint."""
    return asdict(config)


def adapt(tensors: dict[str, torch.Tensor], config: Config, spec: Spec) -> dict[str, torch.Tensor]:
    """Bring the checkpoint into our layout: flat patch weights, positions split and resampled, SwiGLU split."""
    assert isinstance(spec, ImageSpec)
    expect_shapes(tensors, _reshaped(config))
    out = dict(tensors)
    positions = out.get(_POSITIONS)
    for i, name in enumerate(config.special):
        if (token := out.get(f"embeddings.{name}")) is not None:
            flat = token.flatten(0, 1)
            out[f"embeddings.{name}"] = flat if positions is None else flat + positions[0, i : i + 1]
    if positions is not None:
        patches = positions[0, len(config.special) :]
        out[_POSITIONS] = interpolate_positions(patches, _grid(config, spec), antialias=config.antialias)
    if (registers := out.get(_REGISTERS)) is not None:
        out[_REGISTERS] = registers[0]
    if (projection := out.get(f"{_PATCHES}.weight")) is not None:
        out[f"{_PATCHES}.weight"] = projection.flatten(1)
    for name in [name for name in out if ".mlp.weights_in." in name]:
        out[f"{name}[gate]"], out[f"{name}[up]"] = out.pop(name).chunk(2)
    return out


def _reshaped(config: Config) -> dict[str, tuple[int, ...]]:
    """Shapes, in a checkpoint, of the tensors that `adapt` lays out anew."""
    D, patches = config.width, (config.image_size // config.patch) ** 2
    shapes: dict[str, tuple[int, ...]] = {f"embeddings.{name}": (1, 1, D) for name in config.special}
    shapes |= {
        _POSITIONS: (1, len(config.special) + patches, D),
        _REGISTERS: (1, config.registers, D),
        f"{_PATCHES}.weight": (D, 3, config.patch, config.patch),
    }
    for i in range(config.depth if config.swiglu else 0):
        name = f"encoder.layer.{i}.mlp.weights_in"
        shapes |= {f"{name}.weight": (2 * config.hidden, D), f"{name}.bias": (2 * config.hidden,)}
    return shapes


def weight_map(config: Config) -> WeightMap:
    """Where each parameter comes from in a Hugging Face checkpoint, after `adapt`."""
    prefix = [f"embeddings.{name}" for name in config.special]
    names: dict[str, Sequence[str]] = {
        "embed.prefix": prefix + ([_REGISTERS] if config.registers else []),
        "embed.positions": [_POSITIONS],
    }
    modules: dict[str, Sequence[str]] = {
        "embed.project": [_PROJECTION.removesuffix(".weight")],
        "norm": ["layernorm"],
    }
    for i in range(config.depth):
        ours, theirs = f"blocks.{i}", f"encoder.layer.{i}"
        qkv = [f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")]
        modules |= {f"{ours}.attention.qkv": qkv, f"{ours}.attention.out": [f"{theirs}.attention.output.dense"]}
        if config.dino_names:
            inner = {"down": "weights_out"} if config.swiglu else {"up": "fc1", "down": "fc2"}
            modules |= {f"{ours}.mlp.{a}": [f"{theirs}.mlp.{b}"] for a, b in inner.items()}
            halves = [(half, kind) for half in ("gate", "up") for kind in ("weight", "bias")] if config.swiglu else []
            names |= {f"{ours}.mlp.{half}.{kind}": [f"{theirs}.mlp.weights_in.{kind}[{half}]"] for half, kind in halves}
            modules |= {f"{ours}.attention_norm": [f"{theirs}.norm1"], f"{ours}.mlp_norm": [f"{theirs}.norm2"]}
            names |= {
                f"{ours}.attention_scale": [f"{theirs}.layer_scale1.lambda1"],
                f"{ours}.mlp_scale": [f"{theirs}.layer_scale2.lambda1"],
            }
        else:
            modules |= {
                f"{ours}.mlp.up": [f"{theirs}.intermediate.dense"],
                f"{ours}.mlp.down": [f"{theirs}.output.dense"],
                f"{ours}.attention_norm": [f"{theirs}.layernorm_before"],
                f"{ours}.mlp_norm": [f"{theirs}.layernorm_after"],
            }
    for ours, parts in modules.items():
        kinds = ("weight",) if ours.endswith("qkv") and not config.qkv_bias else ("weight", "bias")
        names |= {f"{ours}.{kind}": [f"{part}.{kind}" for part in parts] for kind in kinds}
    return names
