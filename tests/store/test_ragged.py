"""A matrix for every item: rows of tokens or patches beside vectors, with the same promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coldpress.errors import ColdpressError, StoreError
from coldpress.index import VectorIndex
from coldpress.store import EmbeddingStore, RaggedMatrix, StoreWriter
from coldpress.store.encoding import DTYPES, decode, encode
from coldpress.types import Failed, Fingerprint, Item, Outcome, Ragged, Results, TextInput

DIM = 5


def matrix(content: int) -> np.ndarray:
    rng = np.random.default_rng(content)
    return rng.normal(size=(content % 4 + 1, DIM)).astype(np.float32)


class Life:
    """Items 0 to 29: every fifth fails, and contents come again after 9, 3 and 1 items."""

    def __init__(self, path: Path, dtype: str = "float16", pooled: bool = True) -> None:
        self.path, self.dtype = path, dtype
        self.dims = {"pooled": DIM, "tokens": DIM} if pooled else {"tokens": DIM}

    @staticmethod
    def content(i: int) -> int:
        return i - {7: 1, 8: 3}.get(i % 9, 9 if i % 9 == 2 and i > 9 else 0)

    def open(self) -> StoreWriter:
        return StoreWriter(
            self.path,
            fingerprint=Fingerprint({"weights": "abc"}),
            dims=self.dims,
            dtype=self.dtype,
            shard_rows=7,
            model="tiny",
            source="memory",
            description={},
            ragged=["tokens"],
        )

    def results(self, start: int, stop: int) -> Results:
        good = [i for i in range(30) if i % 5 != 4]
        first = {}
        for row, i in enumerate(good):
            first.setdefault(self.content(i), row)
        ours = [i for i in range(start, stop) if i in good]
        copies = [None if first[self.content(i)] == good.index(i) else first[self.content(i)] for i in ours]
        new = [matrix(self.content(i)) for i, copied in zip(ours, copies, strict=True) if copied is None]
        counts = np.array([len(rows) for rows in new], np.int64)
        tokens = Ragged(np.concatenate([np.empty((0, DIM), np.float32), *new]), counts)
        vectors = {"tokens": tokens}
        if "pooled" in self.dims:
            vectors = {"pooled": np.array([rows.mean(0) for rows in new], np.float32).reshape(-1, DIM), **vectors}
        statuses = {i: "ok" if copied is None else "duplicate" for i, copied in zip(ours, copies, strict=True)}
        return Results(
            [Item(f"k{i}", "") for i in range(start, stop)],
            [TextInput(np.zeros(1, np.int32), f"{self.content(i):032x}", 1, False) if i in good else Failed("no")
             for i in range(start, stop)],
            [Outcome(f"k{i}", statuses.get(i, "failed")) for i in range(start, stop)],
            copies,
            vectors,
        )  # fmt: skip

    def run(self, stop: int = 30) -> None:
        with self.open() as writer:
            at = writer.committed_inputs
            while at < stop:
                end = min(at + 3, stop, (at // 7 + 1) * 7)
                writer.write(self.results(at, end))
                at = end
            if stop == 30:
                writer.finish()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_item_has_its_matrix(tmp_path: Path, dtype: str) -> None:
    life = Life(tmp_path / "out", dtype)
    life.run()
    store = EmbeddingStore(tmp_path / "out")
    store.verify()
    assert (store.outputs, store.ragged, store.default_output) == (("pooled", "tokens"), ("tokens",), "pooled")
    if dtype == "binary":
        with pytest.raises(StoreError, match="one bit a dimension"):
            store.output("tokens")
        return
    tokens = store.output("tokens")
    assert isinstance(tokens, RaggedMatrix)
    assert (len(tokens), tokens.dim, len(store.embeddings)) == (24, DIM, 24)
    for i in (i for i in range(30) if i % 5 != 4):
        expected = decode(encode(matrix(life.content(i)), dtype), dtype, DIM)
        np.testing.assert_array_equal(tokens[store.row(f"k{i}")], expected)
    np.testing.assert_array_equal(tokens[-1], tokens[23])
    np.testing.assert_array_equal(np.concatenate(list(tokens)), np.concatenate(list(store.blocks(4, "tokens"))))
    taken = tokens.take(np.array([20, 3]))
    np.testing.assert_array_equal(taken[[1]].rows, np.asarray(tokens[3], np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_killed_in_every_shard_and_resumed_it_has_the_same_bytes(tmp_path: Path, snapshot, dtype: str) -> None:
    Life(tmp_path / "whole", dtype).run()
    for stop in (5, 8, 16, 29, 30):
        Life(tmp_path / "parts", dtype).run(stop)
    assert snapshot(tmp_path / "parts") == snapshot(tmp_path / "whole")


def test_numpy_maps_rows_and_offsets(tmp_path: Path) -> None:
    Life(tmp_path / "out").run()
    store = EmbeddingStore(tmp_path / "out")
    rows = np.load(tmp_path / "out" / "embeddings" / "tokens" / "part-00001.npy", mmap_mode="r")
    offsets = np.load(tmp_path / "out" / "offsets" / "tokens" / "part-00001.npy", mmap_mode="r")
    before = store.manifest.shards[0].rows
    assert (offsets[0, 0], offsets[-1, 1]) == (0, len(rows))
    np.testing.assert_array_equal(offsets[1:, 0], offsets[:-1, 1])
    for place, (first, end) in enumerate(offsets):
        np.testing.assert_array_equal(rows[first:end], store.output("tokens")[before + place])


def test_what_a_matrix_is_not(tmp_path: Path) -> None:
    Life(tmp_path / "both").run()
    Life(tmp_path / "only", pooled=False).run()
    both, only = EmbeddingStore(tmp_path / "both"), EmbeddingStore(tmp_path / "only")
    assert VectorIndex.build(both).dim == DIM
    with pytest.raises(ColdpressError, match=r"'tokens' has a matrix for every item.*index a pooled output"):
        VectorIndex.build(both, output="tokens")
    with pytest.raises(StoreError, match=r"holds a matrix for every item.*--output pooled,tokens"):
        _ = only.embeddings
    assert (tmp_path / "only" / "embeddings" / "tokens").is_dir()
    tokens = only.output("tokens")
    for wrong in (slice(0, 2), [1, 2], (0, 1)):
        with pytest.raises(TypeError, match="the number of one item"):
            tokens[wrong]
    with pytest.raises(IndexError):
        tokens[24]
