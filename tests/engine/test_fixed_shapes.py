"""What a GPU computes in batches of one shape, by the same steps on a CPU: the bits are those of any other batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coldpress import Extractor, models
from coldpress.engine import Computer, parse_outputs
from coldpress.engine.budget import Budget, budget_of, cut, fill_texts
from coldpress.engine.fleet import Fleet, halving
from coldpress.engine.reduction import Reduction
from coldpress.engine.stages import grouped
from coldpress.types import ImageInput, ImageSpec, ModelInput, Ragged, TextInput, TextSpec

CPU = torch.device("cpu")
TEXTS = Budget(items=12, tokens=256, longest=64)


def text(tokens: int, number: int = 0) -> TextInput:
    ids = np.random.default_rng(number).integers(1000, 2000, tokens, dtype=np.int32)
    return TextInput(ids, f"{number}", tokens, truncated=False)


def computer(minilm: Path, outputs: str = "pooled,layer:2,tokens") -> Computer:
    model = models.load(minilm)
    return Computer(model, parse_outputs(outputs, model.backbone.depth, model.backbone.dense), CPU)


def fleet(compute: Computer, budget: Budget, devices: int = 1) -> Fleet:
    def alone(inputs: Sequence[ModelInput]) -> Any:
        return compute(inputs)

    return Fleet(compute.backbone, compute.outputs, compute.reduction, [CPU] * devices, budget, alone)


def assert_equal(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        if isinstance(rows, Ragged):
            assert np.array_equal(found[name].counts, rows.counts)
            assert np.array_equal(found[name].rows, rows.rows)
        else:
            assert np.array_equal(found[name], rows)


@pytest.mark.parametrize("devices", [1, 2])
def test_texts_in_batches_of_one_shape_have_the_same_bits(minilm: Path, devices: int) -> None:
    compute = computer(minilm)
    inputs = [text(n, i) for i, n in enumerate([5, 64, 3, 17, 64, 2, 33, 9, 9, 60, 50, 4, 21, 64, 2, 2, 7, 64, 31])]
    run = fleet(compute, TEXTS, devices)
    for part in (inputs, inputs[::-1], inputs[:1], inputs[3:5]):
        assert_equal(run(part), compute(part))


def test_so_have_reduced_vectors(minilm: Path) -> None:
    compute = computer(minilm, "pooled").reduced(Reduction(truncate=64, normalize=True))
    inputs = [text(n, i) for i, n in enumerate([5, 64, 3])]
    assert_equal(fleet(compute, TEXTS)(inputs), compute(inputs))


def test_so_have_images(patch_extractor: Extractor) -> None:
    compute = Computer(patch_extractor.model, patch_extractor.outputs, CPU)
    draw = np.random.default_rng(0)
    inputs = [ImageInput(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8), str(i)) for i in range(7)]
    run = fleet(compute, Budget(items=3, size=(8, 8)))
    for part in (inputs, inputs[::-1], inputs[:1]):
        assert_equal(run(part), compute(part))


@pytest.mark.parametrize("lengths", [[], [1], [64], [64] * 3, [2] * 8, [50, 60, 64, 40]])
def test_fillers_take_what_a_batch_lacks(lengths: list[int]) -> None:
    ids, ends = np.full(256, -1, np.int32), np.full(13, -1, np.int32)
    texts = [text(n, i).ids for i, n in enumerate(lengths)] or [np.zeros(0, np.int32)]
    longest = fill_texts(texts, TEXTS, ids, ends)
    sizes = np.diff(ends)
    assert (ends[0], ends[-1], longest) == (0, 256, 64)
    assert sizes[: len(lengths)].tolist() == lengths
    assert ((sizes[len(texts) :] >= 1) & (sizes[len(texts) :] <= longest)).all()
    assert np.array_equal(ids[: sum(lengths)], np.concatenate(texts))
    assert (ids[sum(lengths) :] == 0).all()


def test_the_longest_text_is_told_in_powers_of_two() -> None:
    budget = Budget(items=600, tokens=16384, longest=512)
    ids, ends = np.empty(16384, np.int32), np.empty(601, np.int32)
    found = [fill_texts([text(n).ids] * 80, budget, ids, ends) for n in (100, 129, 200)]
    assert found == [128, 256, 256]
    assert fill_texts([text(512).ids], budget, ids, ends) == 512


def test_batches_keep_to_the_budget_and_lose_nothing() -> None:
    inputs = [text(n, i) for i, n in enumerate(np.random.default_rng(0).integers(2, 65, 200))]
    batches = list(cut(inputs, TEXTS))
    assert sorted(number for batch in batches for number in batch) == list(range(200))
    for batch in batches:
        assert len(batch) <= TEXTS.most_texts == 8
        assert sum(len(inputs[number].ids) for number in batch) <= TEXTS.most_tokens == 244


def image_spec(size: tuple[int, int] | None) -> ImageSpec:
    return ImageSpec(("shortest_edge", 224), size, "bicubic", 1 / 255, (0.5,) * 3, (0.5,) * 3)


def test_budgets_of_models() -> None:
    assert budget_of(image_spec((224, 224))) == Budget(128, size=(224, 224))
    assert budget_of(image_spec((518, 518))) == Budget(23, size=(518, 518))
    assert budget_of(image_spec((1024, 1024))) == Budget(8, size=(1024, 1024))
    assert budget_of(image_spec(None)) is None
    assert budget_of(TextSpec("", None)) is None
    short, long = budget_of(TextSpec("", 77)), budget_of(TextSpec("", 8192))
    assert short is not None
    assert (short.most_texts, short.tokens) == (512, 16384)
    assert long is not None
    assert long.most_tokens >= 8192


class Starved:
    """A device whose memory holds batches of so many items."""

    def __init__(self, backbone: Any, most: int) -> None:
        self.backbone, self.most = backbone, most

    def __call__(self, batch: Any, outputs: Any) -> Any:
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("out of memory: tried to allocate 20 GiB\nand more")
        return self.backbone(batch, outputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backbone, name)


def test_out_of_memory_halves_the_batches_and_goes_on(minilm: Path, caplog: pytest.LogCaptureFixture) -> None:
    compute = computer(minilm, "pooled")
    expected = compute([text(n, i) for i, n in enumerate([5, 64, 3, 17, 64, 2])])
    starved = copy.copy(compute)
    starved.backbone = Starved(compute.backbone, 7)  # type: ignore[assignment]
    run = fleet(starved, TEXTS)
    assert_equal(run([text(n, i) for i, n in enumerate([5, 64, 3, 17, 64, 2])]), expected)
    assert run.budget == Budget(items=6, tokens=128, longest=64)
    assert "batches of 6 instead of 12" in caplog.text


def test_items_are_computed_alone_where_no_batch_fits(minilm: Path) -> None:
    compute = computer(minilm, "pooled")
    inputs = [text(n, i) for i, n in enumerate([5, 64, 3])]
    starved = copy.copy(compute)
    starved.backbone = Starved(compute.backbone, 0)  # type: ignore[assignment]
    starved.budget = None
    run = Fleet(starved.backbone, starved.outputs, Reduction(), [CPU], TEXTS, compute)
    assert_equal(run(inputs), compute(inputs))


def test_an_item_that_does_not_fit_alone_fails_by_itself() -> None:
    def work(batch: Sequence[int]) -> Any:
        if len(batch) > 2 or 13 in batch:
            raise torch.OutOfMemoryError("out of memory")
        return {"pooled": np.array(batch, np.float32)[:, None]}

    parts = halving(work, [1, 2, 3, 13, 5, 6, 7], lambda _: {"pooled": np.full((1, 1), np.nan, np.float32)})
    found = np.concatenate([part["pooled"] for part in parts])[:, 0]
    assert found.tolist()[:3] == [1, 2, 3]
    assert np.isnan(found[3])
    assert found.tolist()[4:] == [5, 6, 7]


def test_chunks_are_grouped_within_a_shard() -> None:
    chunks = [([i] * 10, [str(i)] * 10) for i in range(7)]
    assert [len(items) for items, _ in grouped(chunks, 3, 100)] == [30, 30, 10]
    assert [len(items) for items, _ in grouped(chunks, 3, 25)] == [20, 20, 20, 10]
    assert [len(items) for items, _ in grouped(chunks, 1, 5)] == [10] * 7
    assert [item for items, _ in grouped(chunks, 3, 25) for item in items] == [i for i in range(7) for _ in range(10)]
