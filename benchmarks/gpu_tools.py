"""What the GPU benchmarks share: timing by events, the machine's own limits, networks with drawn weights on disk."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

LARGE = 8192


def median_s(run: Callable[[], Any], device: torch.device, repeats: int = 10) -> float:
    """Median seconds of a call after three to warm up: by events on a GPU, by the clock elsewhere."""
    for _ in range(3):
        run()
    seconds = []
    for _ in range(repeats):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            seconds.append(begin.elapsed_time(end) / 1e3)
        else:
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def wall_s(run: Callable[[], Any], repeats: int = 3) -> float:
    """Median seconds by the clock of a call that waits for the device itself, after one to warm up."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def limits(device: torch.device, *, smoke: bool) -> dict[str, float]:
    """Bytes per second of a large copy (read and written), and bf16 operations per second of a large product."""
    count, side = (1 << 20, 256) if smoke else (1 << 30, LARGE)
    source, target = (torch.randint(0, 255, (count,), dtype=torch.uint8, device=device) for _ in range(2))
    copy_s = median_s(lambda: target.copy_(source), device)
    a, b = (torch.randn(side, side, device=device).to(torch.bfloat16) for _ in range(2))
    product_s = median_s(lambda: a @ b, device)
    return {"copy_bytes_per_s": 2 * count / copy_s, "bf16_flop_per_s": 2 * side**3 / product_s}


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def save_model(model: torch.nn.Module, directory: Path, files: dict[str, Any]) -> Path:
    """Write a transformers model with the files that a checkpoint has beside it."""
    model.save_pretrained(directory)  # type: ignore[operator]
    for name, content in files.items():
        (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


def image_processor(size: int) -> dict[str, Any]:
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "size": {"height": size, "width": size},
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }


def word_tokenizer(words: int) -> str:
    """The tokenizer.json of a vocabulary of made-up words ``w0 w1 ...``, in BERT's manner."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(words - 5))])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return str(tokenizer.to_str())
