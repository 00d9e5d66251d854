"""Is a GPU kept as busy as it can be, and busier than by torch.compile, transformers and sentence-transformers?

    python benchmarks/gpu_engine.py [--device cuda] [--smoke] [--seconds 210]

Drawn weights: the speed is that of the real ones, the fidelity that of noise. Ours is measured from uint8 pixels or
token ids in the memory of the CPU to vectors there, upload and download included; ``device`` is the network alone. The
peers are given tensors on the GPU already. In the order of what matters, until the seconds are used up.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_tools import device_name, limits, median_s, save_model, wall_s, word_tokenizer
from harness import write

from coldpress import Extractor
from coldpress.engine import Computer, parse_outputs
from coldpress.models import Backbone, LoadedModel
from coldpress.models.encoder import Encoder, EncoderConfig
from coldpress.models.resnet import Config as ResNetConfig
from coldpress.models.resnet import ResNet
from coldpress.models.vision import VisionConfig, VisionTower
from coldpress.types import ImageInput, ImageSpec, ModelInput, Spec, TextInput, TextSpec

FIDELITY_ITEMS = 64
PEER_S = 45
"""Left over, at least, before a peer is compiled."""

FIRST = 4
"""Cases whose peers come at once."""

BASE = {"width": 768, "depth": 12, "heads": 12, "hidden": 3072}
LARGE = {"width": 1024, "depth": 24, "heads": 16, "hidden": 4096}


@dataclass(frozen=True)
class Case:
    """A network of ours, how many items it is measured on, and timm's network with the batch it is measured at."""

    name: str
    build: Callable[[], Backbone]
    spec: Spec
    items: int
    peer: str = ""
    peer_batch: int = 128
    target: str = ""


@dataclass
class Run:
    """Where it runs, until when, and what came out."""

    device: torch.device
    smoke: bool
    until: float
    peak: float = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def left(self) -> float:
        return self.until - time.perf_counter()


def image_spec(side: int) -> ImageSpec:
    return ImageSpec(("exact", side, side), None, "bicubic", 1 / 255, (0.5,) * 3, (0.5,) * 3)


def vit(side: int, patch: int, sizes: dict[str, int], **options: Any) -> Callable[[], Backbone]:
    config = VisionConfig(**sizes, patch=patch, image_size=side, eps=1e-6, **options)
    return lambda: VisionTower(config, image_spec(side))


def bert(sizes: dict[str, int]) -> Callable[[], Backbone]:
    config = EncoderConfig(vocabulary=30_522, max_tokens=512, positions=512, token_types=2, **sizes)
    return lambda: Encoder(config)


def cases(*, smoke: bool) -> list[Case]:
    tiny = {"width": 64, "depth": 2, "heads": 2, "hidden": 128}
    base, large = (tiny, tiny) if smoke else (BASE, LARGE)
    images, texts = (4, 40) if smoke else (2048, 16_384)
    small = {"width": 384, "depth": 6, "heads": 12, "hidden": 1536}
    text, s224, s518 = TextSpec("", 512), image_spec(224), image_spec(518)
    clip = {"stem_norm": True, "activation": "quick_gelu", "projection": 768}
    resnet = ResNetConfig(stem=8, widths=(16, 32), depths=(1, 1)) if smoke else ResNetConfig()
    peers = (
        "vit_base_patch16_224",
        "resnet50",
        "vit_large_patch16_224",
        "vit_large_patch14_clip_224",
        "vit_base_patch14_dinov2",
    )
    b, r, large_peer, clip_peer, dino = ("",) * 5 if smoke else peers
    return [
        Case("ViT-B/16 @224", vit(224, 16, base), s224, images, b, 256, ">= 14,000/s, x1.15"),
        Case("BERT-base, mixed lengths", bert(base), text, texts, "transformers", 0, ">= 2.5 M tok/s, x1.3"),
        Case("ResNet-50", lambda: ResNet(resnet, s224), s224, images, r, 256, "x1.0"),
        Case("MiniLM-L6, mixed lengths", bert(tiny if smoke else small), text, texts, "", 0, ">= 4 M tok/s"),
        Case("ViT-L/16 @224", vit(224, 16, large), s224, images // 2, large_peer, 128, "x1.1"),
        Case("CLIP L/14 @224", vit(224, 14, large, **clip), s224, images // 2, clip_peer, 128, "x1.1"),
        Case("DINOv2-B/14 @518", vit(518, 14, base, layer_scale=True), s518, images // 4, dino, 32, "x1.1"),
    ]


def load(case: Case) -> LoadedModel:
    def made() -> Backbone:
        backbone, draw = case.build(), torch.Generator().manual_seed(0)
        for name, tensor in backbone.named_parameters():
            if name.endswith("norm_var"):
                tensor.data.fill_(1)
            elif tensor.dim() > 1:
                tensor.data.normal_(std=0.02 if tensor.dim() == 2 else tensor[0].numel() ** -0.5, generator=draw)
        return backbone

    return LoadedModel(made(), case.spec, "drawn", {}, "0" * 64, case.name, reload=made)


def lengths(count: int) -> Any:
    """Of texts in tokens, 3 to 512 and 60 on average, as paragraphs have them."""
    return np.clip(np.random.default_rng(0).lognormal(3.75, 0.8, count), 3, 512).astype(int)


def inputs_of(case: Case) -> list[ModelInput]:
    draw = np.random.default_rng(0)
    if isinstance(case.spec, ImageSpec):
        assert case.spec.size is not None
        some = draw.integers(0, 256, (min(case.items, 256), *case.spec.size, 3), dtype=np.uint8)
        return [ImageInput(some[i % len(some)], str(i)) for i in range(case.items)]
    ids = [draw.integers(5, 30_000, n, dtype=np.int32) for n in lengths(case.items)]
    return [TextInput(one, str(i), len(one), truncated=False) for i, one in enumerate(ids)]


def flop(backbone: Backbone, inputs: Sequence[ModelInput]) -> float:
    """Operations of the products and of attention; 0 for convolutional networks."""
    blocks = getattr(backbone, "blocks", None)
    if blocks is None:
        return 0
    weights = sum(p.numel() for p in blocks.parameters() if p.dim() > 1)
    if isinstance(backbone, VisionTower):
        tokens = [backbone.patches + backbone.config.prefix] * len(inputs)
    else:
        tokens = [len(one.ids) for one in inputs if isinstance(one, TextInput)]
    attention = 4 * backbone.width * backbone.depth
    return float(sum(2 * weights * t + attention * t * t for t in tokens))


def measure(case: Case, run: Run, precision: str) -> dict[str, Any]:
    """Our engine, from memory to memory, and the device alone."""
    model, inputs = load(case), inputs_of(case)
    work = flop(model.backbone, inputs)
    compute = Computer(model, parse_outputs("pooled", model.backbone.depth), run.device, precision)
    seconds = wall_s(lambda: compute(inputs))
    tokens = sum(len(one.ids) for one in inputs if isinstance(one, TextInput))
    some = inputs[:: max(len(inputs) // FIDELITY_ITEMS, 1)][:FIDELITY_ITEMS]
    ours, exact = (torch.from_numpy(found["pooled"]).double() for found in (compute(some), compute.reference(some)))
    cosine = torch.cosine_similarity(ours, exact)
    row = {
        "case": case.name,
        "engine": f"coldpress {precision}",
        "items_per_s": len(inputs) / seconds,
        "tokens_per_s": tokens / seconds or None,
        "share_of_peak": work / seconds / run.peak or None,
        "cosine_mean": float(cosine.mean()),
        "cosine_min": float(cosine.min()),
        "target": case.target,
    }
    if compute._fleet is not None and compute._fleet._lanes[0]._graphs and isinstance(case.spec, ImageSpec):
        graph = next(iter(compute._fleet._lanes[0]._graphs.values()))[0]
        row["device_items_per_s"] = compute._fleet.budget.items / median_s(graph.replay, run.device)
    return row


def compiled_timm(case: Case, run: Run) -> dict[str, Any]:
    """timm's network in bf16 by torch.compile, on tensors that lie on the GPU.

    Products are autotuned; the 20 convolutions of a ResNet are not, which would take minutes.
    """
    import timm

    assert isinstance(case.spec, ImageSpec)
    assert case.spec.size is not None
    model = timm.create_model(case.peer, pretrained=False, num_classes=0).to(run.device, torch.bfloat16).eval()
    batch = torch.randn(case.peer_batch, 3, *case.spec.size, device=run.device, dtype=torch.bfloat16)
    mode = "reduce-overhead" if case.peer.startswith("resnet") else "max-autotune"
    if case.peer.startswith("resnet"):
        model, batch = model.to(memory_format=torch.channels_last), batch.to(memory_format=torch.channels_last)
    begin = time.perf_counter()
    compiled = torch.compile(model, mode=mode)
    compiled(batch)
    compiling = time.perf_counter() - begin
    seconds = median_s(lambda: compiled(batch), run.device)
    name = f"timm bf16, compile {mode}"
    return {"case": case.name, "engine": name, "items_per_s": case.peer_batch / seconds, "compile_s": compiling}


def padded_transformers(case: Case, run: Run) -> dict[str, Any]:
    """transformers' BERT in bf16 with SDPA, texts sorted by length and padded, ids on the GPU already."""
    from transformers import BertConfig, BertModel

    config = BertConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=2) if run.smoke else BertConfig()
    model = BertModel(config, add_pooling_layer=False).to(run.device, torch.bfloat16).eval()
    ids = sorted((one.ids for one in inputs_of(case) if isinstance(one, TextInput)), key=len, reverse=True)
    batches = []
    for begin in range(0, len(ids), 256):
        texts = [torch.from_numpy(one).long() for one in ids[begin : begin + 256]]
        padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True).to(run.device)
        batches.append((padded, (padded != 0).long()))

    def encode() -> None:
        for padded, mask in batches:
            hidden = model(input_ids=padded, attention_mask=mask).last_hidden_state
            (hidden * mask.unsqueeze(2)).sum(1).div_(mask.sum(1, keepdim=True)).float().cpu()

    seconds, tokens = wall_s(encode), sum(map(len, ids))
    name = "transformers bf16, sorted, padded"
    return {
        "case": case.name,
        "engine": name,
        "items_per_s": len(ids) / seconds,
        "tokens_per_s": tokens / seconds,
    }


def end_to_end(run: Run) -> list[dict[str, Any]]:
    """Texts to vectors with the tokenizer: ours and sentence-transformers, BERT-base in bf16."""
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel

    config = BertConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=2) if run.smoke else BertConfig()
    words = [f"w{i}" for i in range(30_000)]
    draw = np.random.default_rng(0)
    count = 40 if run.smoke else 16_384
    texts = [" ".join(words[i] for i in draw.integers(0, 30_000, n)) for n in lengths(count) - 2]
    with tempfile.TemporaryDirectory() as directory:
        files = {
            "tokenizer.json": word_tokenizer(30_005),
            "tokenizer_config.json": {"tokenizer_class": "BertTokenizerFast", "model_max_length": 512},
        }
        model = BertModel(config, add_pooling_layer=False)
        path = save_model(model, Path(directory), files)
        extractor = Extractor(path, device=str(run.device), precision="bf16" if run.device.type == "cuda" else "fp32")
        tokenizing = wall_s(lambda: extractor.prepare(texts), 1)
        ours = wall_s(lambda: extractor.embed(texts))
        peer = SentenceTransformer(str(path), device=str(run.device), model_kwargs={"torch_dtype": torch.bfloat16})
        theirs = wall_s(lambda: peer.encode(texts, batch_size=256), 1)
    case = "BERT-base, texts to vectors"
    return [
        {"case": case, "engine": "coldpress", "items_per_s": count / ours, "tokenizer_items_per_s": count / tokenizing},
        {"case": case, "engine": "sentence-transformers bf16", "items_per_s": count / theirs},
    ]


def attempt(run: Run, what: str, work: Callable[[], dict[str, Any] | list[dict[str, Any]]]) -> None:
    """Keep what came out; an error or a lack of time is a row too, and the rest goes on."""
    try:
        made = work()
        run.rows += made if isinstance(made, list) else [made]
    except Exception as error:
        traceback.print_exc()
        run.rows.append({"case": what, "engine": "FAILED", "error": (str(error) or repr(error)).splitlines()[0]})
    gc.collect()
    if run.device.type == "cuda":
        torch.cuda.empty_cache()
    print(run.rows[-1], flush=True)


def everything(run: Run, only: str) -> None:
    """Ours and its peer one after the other, the most important first; peers of the rest last, as time is left."""
    half = "bf16" if run.device.type == "cuda" else "fp32"
    listed = [case for case in cases(smoke=run.smoke) if only in case.name]
    for number, case in enumerate(listed):
        attempt(run, case.name, lambda case=case: measure(case, run, half))
        if number == 0 and half == "bf16":
            attempt(run, f"{case.name} fp8", lambda case=case: measure(case, run, "fp8"))
        if number < FIRST:
            versus(case, run)
        if case.peer == "transformers":
            attempt(run, "texts to vectors", lambda: end_to_end(run))
    for case in listed[FIRST:]:
        versus(case, run)


def versus(case: Case, run: Run) -> None:
    """The peer of a case."""
    if not case.peer:
        return
    if run.left < PEER_S:
        run.rows.append({"case": case.name, "engine": "peer not run: no time left"})
        return
    peer = padded_transformers if case.peer == "transformers" else compiled_timm
    with torch.inference_mode():
        attempt(run, case.name, lambda: peer(case, run))


def table(run: Run, ceiling: dict[str, float]) -> None:
    print(f"# table: engine, {device_name(run.device)}, bf16 product {ceiling['bf16_flop_per_s'] / 1e12:.0f} TFLOP/s")
    for row in sorted(run.rows, key=lambda row: row["case"]):
        speed = f"{row['items_per_s']:10.0f}/s" if "items_per_s" in row else f"{'':12s}"
        notes = [
            f"{row['tokens_per_s'] / 1e6:.2f} M tok/s" if row.get("tokens_per_s") else "",
            f"device {row['device_items_per_s']:.0f}/s" if row.get("device_items_per_s") else "",
            f"{row['share_of_peak']:.0%} of the product" if row.get("share_of_peak") else "",
            f"cosine {row['cosine_mean']:.5f} min {row['cosine_min']:.5f}" if "cosine_mean" in row else "",
            f"target {row['target']}" if row.get("target") else "",
            row.get("error", "")[:80],
        ]
        print(f"{row['case']:28s} {row['engine']:32s} {speed}  {'  '.join(filter(None, notes))}")
    for pair in ratios(run.rows):
        print(f"{pair['case']:28s} x{pair['ratio']:.2f} of {pair['to']}")


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times as fast ours is as the other engine of a case, and float8 as bfloat16."""
    speeds = {(row["case"], row["engine"]): row["items_per_s"] for row in rows if "items_per_s" in row}
    ours = {case: speed for (case, engine), speed in reversed(speeds.items()) if engine.startswith("coldpress")}
    found = [
        {"case": case, "to": engine, "ratio": ours[case] / speed}
        for (case, engine), speed in speeds.items()
        if case in ours and not engine.startswith("coldpress")
    ]
    both = [next((s for (_, engine), s in speeds.items() if engine == f"coldpress {m}"), 0) for m in ("fp8", "bf16")]
    return [*found, *([{"case": "fp8", "to": "our bf16", "ratio": both[0] / both[1]}] if all(both) else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny networks, to try the script")
    parser.add_argument("--seconds", type=float, default=210, help="to begin new work in (default 210)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only networks with that in their names")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device, 0) if options.device == "cuda" else torch.device(options.device)
    run = Run(device, options.smoke, time.perf_counter() + options.seconds)
    ceiling = limits(device, smoke=options.smoke)
    run.peak = ceiling["bf16_flop_per_s"]
    try:
        everything(run, options.only)
    finally:
        table(run, ceiling)
        question = __doc__.splitlines()[0]
        write(
            options.json,
            question=question,
            device=device_name(device),
            limits=ceiling,
            rows=run.rows,
            versus=ratios(run.rows),
        )


if __name__ == "__main__":
    main()
