"""`compare_variants`: certify, time and probe a model cut short and in every mode, on the same items."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.engine import Attempt, Computer, Sample, take_sample
from coldpress.engine.certificate import closeness
from coldpress.engine.inputs import prepare_chunks
from coldpress.engine.plan import CHUNK_ITEMS
from coldpress.engine.vectors import Vectors, first_pooled, rows_of
from coldpress.errors import ColdpressError, ItemError
from coldpress.extractor import Extractor
from coldpress.preprocess import preprocessor_for
from coldpress.probes import logistic
from coldpress.probes.evaluate import Evaluation, accuracy_change, evaluate
from coldpress.probes.features import Features, checked
from coldpress.probes.labels import Labels
from coldpress.probes.probe import most_frequent
from coldpress.probes.splits import fold_numbers, split
from coldpress.probes.variants import Comparison, Cut, Variant, pareto
from coldpress.types import Certificate, Failed, Item, ModelInput

TIMED_S = 1.0
"""A variant computes all items again until it has taken that long; the median counts."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Data:
    """Items as the model takes them, and which of them certify; rows of `parts`, train and test, are their numbers."""

    inputs: Sequence[ModelInput]
    keys: Sequence[str]
    sample: Sample
    sampled: Sequence[int]
    parts: tuple[Labels, Labels] | None
    failed: int
    seed: int


@dataclass(frozen=True, slots=True)
class _Measured:
    """`vectors` (n, D) float64 are of the sampled items, `predictions` of the test part."""

    cut: Cut
    certificate: Certificate
    items_per_s: float
    weight_bytes: int
    vectors: npt.NDArray[np.float64]
    predictions: Array | None


def compare_variants(
    extractors: Iterable[tuple[Cut, Extractor]],
    items: Sequence[Item],
    labels: Sequence[Any] | Array | None = None,
    *,
    samples: int = 64,
    test_size: float = 0.2,
    seed: int = 0,
    on_variant: Callable[[str], None] | None = None,
) -> Comparison:
    """Certify, time and, with labels, probe every mode of some extractors that differ in what they leave out.

    The vectors of the probe are those of the timed pass: of a network cut short, so that its speed is its own.

    Parameters
    ----------
    extractors
        May be made one by one. The whole network in fp32, what all is compared with, has to be among what they try; of
        two equal ones the first counts.
    items
        With content. Their inputs are held in memory: 150 kB for an image of 224 x 224. Without labels no more of them
        are looked at than are certified.
    labels : one an item, text or whole numbers.
    samples : items for the certificates, evenly spread.
    test_size, seed
        As in :func:`fit_probe`; the split is the same for all, and so are the folds that choose C.
    on_variant : called with the name of each before it is timed.

    Raises
    ------
    ColdpressError
        Labels that cannot be learned, a vector that is not finite, or no whole network in fp32.
    ItemError
        If no item can be prepared.
    """
    data: _Data | None = None
    measured: dict[Cut, dict[str, _Measured]] = {}
    for cut, extractor in extractors:
        data = data or _prepare(extractor, items, labels, samples, test_size, seed)
        found = measured.setdefault(cut, {})
        for attempt in extractor.attempts(data.sample):
            if (name := attempt.trial.certificate.label) not in found:
                if on_variant is not None:
                    on_variant(f"{cut}, {name}")
                found[name] = _measure(cut, attempt, data)
    whole = measured.get(Cut(), {}).get("fp32")
    if data is None or whole is None:
        raise ColdpressError("the whole network in fp32 is not among the variants: there is nothing to compare with")
    slowest_first = [one for found in measured.values() for one in reversed(found.values())]
    return _compare(sorted(slowest_first, key=lambda one: (one is not whole, one.cut != Cut())), whole, data)


def _prepare(
    extractor: Extractor,
    items: Sequence[Item],
    labels: Sequence[Any] | Array | None,
    samples: int,
    test_size: float,
    seed: int,
) -> _Data:
    if labels is None:
        places = np.linspace(0, len(items) - 1, min(samples, len(items))).astype(int)
        items = [items[place] for place in dict.fromkeys(places.tolist())]
    readable = [(row, item, item.content) for row, item in enumerate(items) if not isinstance(item.content, Failed)]
    preprocess = preprocessor_for(extractor.model.spec, extractor.model.directory)
    contents = [content for _, _, content in readable]
    chunks = prepare_chunks(preprocess, contents, CHUNK_ITEMS[extractor.modality])
    prepared = [one for chunk in chunks for one in chunk]
    good = [(*read, one) for read, one in zip(readable, prepared, strict=True) if not isinstance(one, Failed)]
    if not good:
        raise ItemError(f"none of {len(items)} items can be embedded; nothing to certify")
    inputs = [one for *_, one in good]
    sample = take_sample(preprocess, [content for *_, content, _ in good], inputs, samples)
    number = {one.content_hash: row for row, one in enumerate(inputs)}
    parts = None
    if labels is not None:
        values = np.asarray(labels)[[row for row, *_ in good]]
        parts = split(Labels(np.arange(len(good)), values, len(items) - len(good), 0), test_size, seed)
    return _Data(
        inputs=inputs,
        keys=[item.key for _, item, *_ in good],
        sample=sample,
        sampled=[number[one.content_hash] for one in sample.inputs],
        parts=parts,
        failed=len(items) - len(good),
        seed=seed,
    )


def _measure(cut: Cut, attempt: Attempt, data: _Data) -> _Measured:
    vectors, items_per_s = _timed(attempt.compute, data.inputs)
    certificate, memory = attempt.trial.certificate, attempt.compute.backbone.weight_bytes
    X = checked(
        rows_of(vectors[first_pooled(vectors)]),
        np.float64,
        lambda row: f"the {certificate.label} vector of {data.keys[row]!r} ({cut})",
    )
    predictions = None
    if data.parts is not None:
        train, test = data.parts
        features, (classes, y) = Features(X, train.rows, str), np.unique(train.values, return_inverse=True)
        search = logistic.search_C(features, y, fold_numbers(y, data.seed), columns=len(classes))
        coef, intercept, _ = logistic.fit(features, y, search.C, columns=len(classes), start=search.start)
        predictions = logistic.estimator(coef, intercept, classes, search.C).predict(X[test.rows])
    return _Measured(cut, certificate, items_per_s, memory, X[data.sampled], predictions)


def _timed(compute: Computer, inputs: Sequence[ModelInput]) -> tuple[Vectors, float]:
    """The vectors, and items per second."""
    seconds: list[float] = []
    while sum(seconds) < TIMED_S:
        begin = time.perf_counter()
        vectors = compute(inputs)
        seconds.append(time.perf_counter() - begin)
    return vectors, len(inputs) / median(seconds)


def _compare(measured: Sequence[_Measured], whole: _Measured, data: _Data) -> Comparison:
    near = [closeness(one.vectors, whole.vectors) for one in measured]
    tested = [_evaluation(one, data) for one in measured]
    passed = [row for row, one in enumerate(measured) if one.certificate.passed]
    points = [
        (measured[row].items_per_s, -measured[row].weight_bytes, found.accuracy if found else near[row].overlap)
        for row, found in ((row, tested[row]) for row in passed)
    ]
    optimal = {row for row, best in zip(passed, pareto(points), strict=True) if best}
    variants = []
    for row, one in enumerate(measured):
        change, interval = _change(one, whole, data)
        variants.append(
            Variant(
                cut=one.cut,
                certificate=one.certificate,
                items_per_s=one.items_per_s,
                weight_bytes=one.weight_bytes,
                neighbours=near[row].neighbours,
                overlap=round(near[row].overlap, 4),
                cosine_mean=round(near[row].cosine_mean, 7) if one.cut.same_space else None,
                cosine_min=round(near[row].cosine_min, 7) if one.cut.same_space else None,
                evaluation=tested[row],
                change=change,
                change_interval=interval,
                optimal=row in optimal,
            )
        )
    train, test = data.parts or (None, None)
    trained = {data.inputs[row].content_hash for row in train.rows} if train else set()
    return Comparison(
        variants=tuple(variants),
        train_items=len(train.rows) if train else 0,
        test_items=len(test.rows) if test else 0,
        majority_baseline=tested[0].majority_baseline if tested[0] else None,
        failed=data.failed,
        shared_content=sum(data.inputs[row].content_hash in trained for row in test.rows) if test else 0,
        seed=data.seed,
    )


def _evaluation(one: _Measured, data: _Data) -> Evaluation | None:
    if data.parts is None or one.predictions is None:
        return None
    train, test = data.parts
    classes, majority = np.unique(train.values).tolist(), most_frequent(train.values)
    return evaluate(test.values, one.predictions, classes, majority=majority)


def _change(one: _Measured, whole: _Measured, data: _Data) -> tuple[float | None, tuple[float, float] | None]:
    if data.parts is None or one.predictions is None or whole.predictions is None:
        return None, None
    if one is whole:
        return 0.0, (0.0, 0.0)
    truth = data.parts[1].values
    return accuracy_change(whole.predictions == truth, one.predictions == truth)
