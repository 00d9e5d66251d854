"""Real labelled items for the transfer study: what is asked of them, and the frozen model that is to answer."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
MINILM, MOBILENET = "all-MiniLM-L6-v2", "models/mobilenet_v2_1.0_224_imagenet"
DIGITS = 2000  # for training, of 7,500


@dataclass(frozen=True)
class Part:
    """Items, texts or (N, H, W, 3) uint8, and their classes (N,)."""

    items: Any
    codes: Array


@dataclass(frozen=True)
class Task:
    """A question, the frozen model, a part to learn from and a part to test on.

    `mirrored`: whether an image seen in a mirror is of the same class, which training from scratch makes use of.
    """

    name: str
    title: str
    model: str
    train: Part
    test: Part
    mirrored: bool = False

    @property
    def texts(self) -> bool:
        return isinstance(self.train.items, list)

    @property
    def classes(self) -> int:
        return int(self.train.codes.max()) + 1


def topics(data: Path) -> Task:
    train, test = (_texts(data / "text" / "ag_news" / f"{part}.jsonl") for part in ("train", "test"))
    return Task("topics", "Topic of a news item (AG News, 4 classes)", MINILM, train, test)


def questions(data: Path) -> Task:
    train, test = (_texts(data / "text" / "trec6" / f"{part}.jsonl") for part in ("train", "test"))
    return Task("questions", "What a question asks for (TREC, 6 classes)", MINILM, train, test)


def capitals(data: Path) -> Task:
    """Whether the headline of a news item is in title case: a label that an uncased model cannot see."""
    parts = []
    for part in ("train", "test"):
        read = _texts(data / "text" / "ag_news" / f"{part}.jsonl")
        shares = np.asarray([_capitals(text) for text in read.items])
        kept = np.flatnonzero((shares <= 0.2) | (shares >= 0.8))
        parts.append(Part([read.items[row] for row in kept], (shares[kept] >= 0.8).astype(np.int64)))
    return Task("capitals", "Headline in title case or not (AG News, 2 classes)", MINILM, *parts)


def photos(data: Path) -> Task:
    train, test = (_cifar(sorted((data / "cifar10").glob(f"cifar10-{part}-*.tar"))) for part in ("train", "test"))
    return Task(
        "photos", "What is on a photo (CIFAR-10, 10 classes)", str(data / MOBILENET), train, test, mirrored=True
    )


def digits(data: Path) -> Task:
    pixels = _idx(data / "mnist_7500" / "images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1).repeat(3, axis=3)
    codes = _idx(data / "mnist_7500" / "labels-idx1-ubyte.gz", 8).astype(np.int64)
    train, test = Part(pixels[:DIGITS], codes[:DIGITS]), Part(pixels[DIGITS:], codes[DIGITS:])
    return Task("digits", "Handwritten digits (MNIST, 10 classes)", str(data / MOBILENET), train, test)


TASKS: dict[str, Callable[[Path], Task]] = {
    "topics": topics,
    "questions": questions,
    "photos": photos,
    "digits": digits,
    "capitals": capitals,
}


def _texts(path: Path) -> Part:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return Part([row["text"] for row in rows], np.asarray([row["label"] for row in rows]))


def _capitals(text: str) -> float:
    """The share of the longer words of the headline, but its first, with a capital; one half where there are few."""
    headline = text.split(". ", maxsplit=1)[0].split("(", maxsplit=1)[0]
    words = [word for word in headline.split()[1:] if word[0].isalpha() and len(word) > 3]
    return sum(word[0].isupper() for word in words) / len(words) if len(words) > 2 else 0.5


def _cifar(shards: Sequence[Path]) -> Part:
    pixels, codes = [], []
    for shard in shards:
        with tarfile.open(shard) as file:
            content = {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]
        for name in sorted(name for name in content if name.endswith(".jpg")):
            pixels.append(np.asarray(Image.open(BytesIO(content[name])).convert("RGB")))
            codes.append(int(content[name.removesuffix("jpg") + "cls"]))
    return Part(np.stack(pixels), np.asarray(codes))


def _idx(path: Path, header: int) -> Array:
    return np.frombuffer(gzip.open(path).read(), dtype=np.uint8)[header:]
