"""Deterministic results as an engine would hand them to the store: some failed, some duplicates."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from coldpress.store import StoreWriter
from coldpress.types import Failed, Fingerprint, Item, Outcome, Results, TextInput

DIM = 6
FINGERPRINT = Fingerprint({"weights": "abc", "text": {"max_tokens": 256, "prompt": ""}, "precision": "fp32"})


class Sample:
    """`results(start, stop)` for the items of one imaginary source; every third fails, every seventh is a duplicate."""

    def __init__(self, dims: dict[str, int]) -> None:
        self.dims = dims

    @staticmethod
    def status(i: int) -> str:
        return "failed" if i % 3 == 2 else "duplicate" if i % 7 == 6 else "ok"

    def vector(self, i: int, dim: int) -> np.ndarray:
        return np.random.default_rng([i, dim]).standard_normal(dim).astype(np.float32)

    def results(self, start: int, stop: int) -> Results:
        numbers = range(start, stop)
        good = [i for i in numbers if self.status(i) != "failed"]
        reasons = {"ok": "", "failed": "not an image", "duplicate": "item-0"}
        return Results(
            items=[Item(f"item-{i}", f"text {i}", f"a.txt:{i}", {"label": f"class {i % 4}"}) for i in numbers],
            inputs=[self.input(i) if i in good else Failed("not an image") for i in numbers],
            outcomes=[Outcome(f"item-{i}", self.status(i), reasons[self.status(i)]) for i in numbers],
            copies=[None] * len(good),
            vectors={
                name: np.array([self.vector(i, dim) for i in good], np.float32).reshape(len(good), dim)
                for name, dim in self.dims.items()
            },
        )

    @staticmethod
    def input(i: int) -> TextInput:
        return TextInput(
            np.arange(i % 5 + 2, dtype=np.int32), hashlib.sha256(str(i).encode()).hexdigest(), i, i % 2 == 0
        )

    def open(self, path: Path, **changed) -> StoreWriter:
        options = {
            "fingerprint": FINGERPRINT,
            "dims": self.dims,
            "dtype": "float32",
            "shard_rows": 10,
            "model": "mini",
            "source": "a.txt",
            "description": {"device": "cpu"},
        }
        return StoreWriter(path, **{**options, **changed})

    def feed(self, writer: StoreWriter, stop: int, chunk: int = 4, shard_rows: int = 10) -> None:
        start = writer.committed_inputs
        while start < stop:
            end = min(start + chunk, stop, (start // shard_rows + 1) * shard_rows)
            writer.write(self.results(start, end))
            start = end

    def build(self, path: Path, stop: int = 34, **changed) -> Path:
        with self.open(path, **changed) as writer:
            self.feed(writer, stop, shard_rows=changed.get("shard_rows", 10))
            writer.finish()
        return path


@pytest.fixture
def sample() -> Sample:
    return Sample({"pooled": DIM})


@pytest.fixture(scope="session")
def two_outputs() -> Sample:
    return Sample({"pooled": DIM, "layer:2": 3})


@pytest.fixture(scope="session")
def snapshot():
    """Every file of a directory with its bytes."""
    return lambda root: {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
