"""Three ways to learn from labels: on frozen vectors, on raw features, and from scratch. Each says what it took."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import nn
from transfer_tasks import Part, Task

import coldpress
from coldpress.probes import logistic
from coldpress.probes.features import Features
from coldpress.probes.splits import fold_numbers

Array = np.ndarray[Any, Any]
BATCH, LEAST_STEPS, EPOCHS = 64, 100, {"text": 20, "image": 20}
BUCKETS, WIDTH = 1 << 16, 32


@dataclass(frozen=True)
class Outcome:
    """Accuracy on the test part, and seconds of the processor from the labelled items to a classifier.

    Of the processor, because they are the same whatever else the machine does.
    """

    accuracy: float
    seconds: float


Method = Callable[[Array, int], Outcome]
"""Of the rows of the training part that are labelled, and a seed."""


def methods(task: Task) -> dict[str, Method]:
    """By name. What does not depend on the labels is computed once, and charged by the item."""
    return {"frozen": frozen(task), "raw": raw(task), "scratch": scratch(task)}


def frozen(task: Task) -> Method:
    """Vectors of the frozen model and a logistic regression, its strength by cross-validation."""
    start = time.process_time()
    extractor = coldpress.Extractor(task.model)
    extractor.embed(list(task.train.items[:2]))  # what is loaded lazily
    loading = time.process_time() - start
    start = time.process_time()
    X = extractor.embed(list(task.train.items))
    each = (time.process_time() - start) / len(X)
    T = extractor.embed(list(task.test.items))

    def learn(rows: Array, seed: int) -> Outcome:
        found = _probe(X[rows], task.train.codes[rows], T, task, seed)
        return Outcome(found.accuracy, loading + each * len(rows) + found.seconds)

    return learn


def raw(task: Task) -> Method:
    """The same on pixels, or on TF-IDF of words, pairs of words and characters, in their case."""
    if not task.texts:
        X, T = (_pixels(part) for part in (task.train, task.test))
        return lambda rows, seed: _probe(X[rows], task.train.codes[rows], T, task, seed)

    def learn(rows: Array, seed: int) -> Outcome:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV
        from sklearn.pipeline import make_union

        start, y = time.process_time(), task.train.codes[rows]
        shared = {"sublinear_tf": True, "lowercase": False}
        terms = make_union(
            TfidfVectorizer(ngram_range=(1, 2), **shared),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), **shared),
        )
        X = terms.fit_transform([task.train.items[row] for row in rows])
        model = LogisticRegression(C=100.0, tol=1e-3)
        if np.bincount(y).min() > 1:
            model = GridSearchCV(model, {"C": [1.0, 10.0, 100.0]}, cv=min(3, int(np.bincount(y).min())))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of iterations, for the largest C
            model.fit(X, y)
        seconds = time.process_time() - start
        return Outcome(float(model.score(terms.transform(task.test.items), task.test.codes)), seconds)

    return learn


def scratch(task: Task) -> Method:
    """A small network with random weights: of convolutions, or fastText's bag of words, pairs and characters."""
    prepare: Callable[[Any], Any] = _hashed if task.texts else _scaled
    T = prepare(task.test.items)

    def learn(rows: Array, seed: int) -> Outcome:
        torch.manual_seed(seed)
        start = time.process_time()
        X = prepare([task.train.items[row] for row in rows] if task.texts else task.train.items[rows])
        net = Bag(task.classes) if task.texts else small_cnn(task.classes)
        _fit(net, X, torch.from_numpy(task.train.codes[rows]), seed, None if task.texts else task.mirrored)
        seconds = time.process_time() - start
        net.eval()
        with torch.inference_mode():
            found = torch.cat([net(_batch(T, range(a, min(a + 500, len(T))))).argmax(1) for a in range(0, len(T), 500)])
        return Outcome(float((found.numpy() == task.test.codes).mean()), seconds)

    return learn


def _probe(X: Array, y: Array, T: Array, task: Task, seed: int) -> Outcome:
    start = time.process_time()
    if len(X) < X.shape[1]:  # the weights are sums of these rows, so their span says all
        span = np.linalg.svd(X, full_matrices=False)[2].T
        X, T = X @ span, T @ span
    features, strength, first = Features(X, np.arange(len(X)), str), 1.0, None
    if np.bincount(y).min() > 1:
        search = logistic.search_C(features, y, fold_numbers(y, seed), columns=task.classes)
        strength, first = search.C, search.start
    coef, intercept, _ = logistic.fit(features, y, strength, columns=task.classes, start=first)
    seconds = time.process_time() - start
    classifier = logistic.estimator(coef, intercept, np.arange(task.classes), strength)
    return Outcome(float((classifier.predict(T) == task.test.codes).mean()), seconds)


def _pixels(part: Part) -> Array:
    """(N, 784) grey or (N, 768) colour values: the images at 28 or 16 pixels a side, of mean length 1."""
    pixels = part.items.astype(np.float32) / 255
    if pixels.shape[1] == 28:
        pixels = pixels[..., :1]
    else:
        N, H, W, C = pixels.shape
        pixels = pixels.reshape(N, H // 2, 2, W // 2, 2, C).mean(axis=(2, 4))
    flat = pixels.reshape(len(pixels), -1)
    return flat / np.sqrt((flat**2).sum(axis=1).mean())


class Bag(nn.Module):
    """The mean of the vectors of what occurs, and a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(BUCKETS, WIDTH, mode="mean")
        self.out = nn.Linear(WIDTH, classes)

    def forward(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return self.out(nn.functional.dropout(self.bag(*batch), 0.2, self.training))


def small_cnn(classes: int) -> nn.Module:
    """Three blocks, 60,000 weights: one that a few thousand small images can fill."""
    widths = (3, 24, 48, 96)
    blocks = [
        part
        for a, b in pairwise(widths)
        for part in (nn.Conv2d(a, b, 3, 1 + (a > 3), 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
    ]
    net = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(384, classes))
    return net.to(memory_format=torch.channels_last)


def _fit(net: nn.Module, X: Any, y: torch.Tensor, seed: int, mirrored: bool | None) -> None:  # noqa: FBT001
    """AdamW with one cycle of its rate: the same number of epochs for many labels, of steps for few."""
    generator = torch.Generator().manual_seed(seed)
    size = min(BATCH, len(y))
    steps = max(LEAST_STEPS, EPOCHS["text" if mirrored is None else "image"] * len(y) // size)
    rate = 0.05 if mirrored is None else 0.01
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(len(y), generator=generator)
        rows, order = order[:size], order[size:]
        batch = _batch(X, rows.tolist())
        if mirrored is not None:
            batch = _moved(batch, generator, mirrored)
        loss = nn.functional.cross_entropy(net(batch), y[rows], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def _moved(images: torch.Tensor, generator: torch.Generator, mirrored: bool) -> torch.Tensor:  # noqa: FBT001
    """A batch shifted by up to two pixels and, half of the time, mirrored."""
    dy, dx = torch.randint(0, 5, (2,), generator=generator).tolist()
    H, W = images.shape[2:]
    padded = nn.functional.pad(images, (2, 2, 2, 2))[:, :, dy : dy + H, dx : dx + W]
    if mirrored and torch.rand(1, generator=generator) < 0.5:
        padded = padded.flip(3)
    return padded.contiguous(memory_format=torch.channels_last)


def _scaled(images: Array) -> torch.Tensor:
    values = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return values.contiguous(memory_format=torch.channels_last)


def _hashed(texts: Sequence[str]) -> list[list[int]]:
    """Of each text the buckets of its words, pairs of words, and the three-letter parts of its words, in their case."""
    found = []
    for text in texts:
        words = text.split()
        parts = [f"<{word}>"[i : i + 3] for word in words for i in range(len(word))]
        pairs = [f"{a} {b}" for a, b in pairwise(words)]
        found.append([crc32(part.encode()) % BUCKETS for part in (*words, *pairs, *parts)] or [0])
    return found


def _batch(X: Any, rows: Sequence[int]) -> Any:
    if isinstance(X, torch.Tensor):
        return X[list(rows)]
    bags = [X[row] for row in rows]
    offsets = np.cumsum([0, *map(len, bags[:-1])])
    return torch.tensor([one for bag in bags for one in bag]), torch.from_numpy(offsets)
