"""The settings of GPU libraries while we compute, and what a user finds of his own afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch

from coldpress.engine.exactness import exact_libraries

matmul: Any = torch.backends.cuda.matmul
cudnn: Any = torch.backends.cudnn
SIXTEEN = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
WATCHED = [
    *((cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
    (cudnn.conv, "fp32_precision"),
    (matmul, "fp32_precision"),
    *((matmul, name) for name in SIXTEEN),
]


def found() -> list[Any]:
    return [getattr(module, name) for module, name in WATCHED]


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before, high = found(), torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(high)
    for (module, name), value in zip(WATCHED, before, strict=True):
        setattr(module, name, value)


def test_float32_is_float32_and_each_run_the_same() -> None:
    with exact_libraries():
        assert found() == [True, False, True, "ieee", "ieee", False, False]


@pytest.mark.parametrize("way", ["none", "new", "old"])
def test_a_user_finds_his_settings_again(way: str) -> None:
    cudnn.benchmark, cudnn.deterministic = True, False
    matmul.allow_bf16_reduced_precision_reduction = True
    if way == "new":
        cudnn.conv.fp32_precision = matmul.fp32_precision = "tf32"
    if way == "old":
        torch.set_float32_matmul_precision("high")
    before = found()
    with exact_libraries():
        assert found() != before
    assert found() == before


def test_the_last_one_to_leave_puts_them_back() -> None:
    before = found()
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(exact_libraries())
        second.enter_context(exact_libraries())
        inside = found()
        first.close()
        assert found() == inside
    assert found() == before
