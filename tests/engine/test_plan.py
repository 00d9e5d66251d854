"""How inputs are cut into batches."""

from __future__ import annotations

import numpy as np
import pytest

from coldpress.engine.plan import BATCH_IMAGES, BATCH_TOKENS, batch_inputs, parse_outputs
from coldpress.errors import ColdpressError
from coldpress.types import ImageInput, ModelInput, TextInput


def text(tokens: int) -> TextInput:
    return TextInput(np.zeros(tokens, np.int32), "", tokens, truncated=False)


def image() -> ImageInput:
    return ImageInput(np.zeros((1, 1, 3), np.uint8), "")


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("inputs", [[text(1 + i * 37 % 256) for i in range(500)], [image() for _ in range(100)], []])
def test_batches_keep_every_input_in_order_and_the_budget(inputs: list[ModelInput], threads: int) -> None:
    batches = list(batch_inputs(inputs, "cpu", threads))
    assert [id(item) for batch in batches for item in batch] == [id(item) for item in inputs]
    for batch in batches:
        tokens = sum(len(item.ids) for item in batch if isinstance(item, TextInput))
        assert tokens <= BATCH_TOKENS["cpu"]
        assert isinstance(batch[0], TextInput) or len(batch) <= BATCH_IMAGES["cpu"]


def test_a_text_over_the_budget_runs_alone() -> None:
    long = BATCH_TOKENS["cpu"] + 1
    assert [len(batch) for batch in batch_inputs([text(3), text(long), text(3)], "cpu")] == [1, 1, 1]


def test_the_last_batches_of_several_threads_are_small() -> None:
    sizes = [sum(len(item.ids) for item in batch) for batch in batch_inputs([text(50)] * 400, "cpu", 2)]  # type: ignore[union-attr]
    assert sizes[0] > 900
    assert sizes[-1] <= 128
    assert [len(batch) for batch in batch_inputs([image()] * 32, "cpu", 2)][-3:] == [2, 2, 1]


def test_layers_are_not_offered_where_there_are_none() -> None:
    with pytest.raises(ColdpressError, match="output 'layer:1': this backbone has no layers"):
        parse_outputs("layer:1", 0)
    with pytest.raises(ColdpressError, match=r"this backbone has pooled, cls, mean, last, tokens$"):
        parse_outputs("patches", 0, "tokens")
