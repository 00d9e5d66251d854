"""Every dtype keeps the promises of a store, and gives back what it can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from coldpress.errors import StoreError
from coldpress.store import DecodedMatrix, EmbeddingStore
from coldpress.store.encoding import DTYPES, decode, encode
from coldpress.types import Outcome, Results

ROWS = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20),
    elements=st.floats(-60_000, 60_000, width=32),
)


def stored(sample, dtype: str, stop: int) -> np.ndarray:
    """What a store of `stop` inputs should give back."""
    rows = np.array([sample.vector(i, 6) for i in range(stop) if sample.status(i) != "failed"])
    return decode(encode(rows, dtype), dtype, 6)


class TestEncoding:
    @given(rows=ROWS, dtype=st.sampled_from(DTYPES))
    @settings(deadline=None)
    def test_what_was_read_and_is_stored_again_keeps_its_bytes(self, rows, dtype):
        once = encode(rows, dtype)
        again = encode(np.asarray(decode(once, dtype, rows.shape[1]), np.float32), dtype)
        assert [a.tobytes() for a in again] == [a.tobytes() for a in once]

    @given(rows=ROWS, dtype=st.sampled_from(DTYPES))
    @settings(deadline=None)
    def test_a_row_does_not_depend_on_its_company(self, rows, dtype):
        together = encode(rows, dtype)
        for i in range(len(rows)):
            alone = encode(rows[i : i + 1], dtype)
            assert [a.tobytes() for a in alone] == [a[i].tobytes() for a in together]

    @given(rows=ROWS)
    @settings(deadline=None)
    def test_int8_is_off_by_half_a_step_at_most(self, rows):
        codes, scales = encode(rows, "int8")
        assert np.abs(codes.astype(int)).max() <= 127
        errors = np.abs(decode((codes, scales), "int8", rows.shape[1]).astype(np.float64) - rows)
        assert (errors <= 0.5001 * scales + 1e-35).all()

    def test_binary_is_what_other_libraries_call_ubinary(self):
        (bits,) = encode(np.array([[0.5, -1, 0, 3, -2, 1, 1, -1, 2, -0.1]], np.float32), "binary")
        assert bits.tolist() == [[0b10010110, 0b10000000]]
        signs = decode((bits,), "binary", 10)
        np.testing.assert_array_equal(np.sign(signs[0]), [1, -1, -1, 1, -1, 1, 1, -1, 1, -1])
        np.testing.assert_allclose(np.linalg.norm(signs, axis=1), 1, rtol=1e-6)

    def test_zero_rows_and_rows_of_almost_nothing_stay_finite(self):
        rows = np.array([[0, 0], [1e-40, -1e-41], [3e38, -3e38]], np.float32)
        back = decode(encode(rows, "int8"), "int8", 2)
        assert np.isfinite(back).all()
        np.testing.assert_array_equal(back[:2], 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_killed_in_every_shard_and_resumed_it_has_the_same_bytes(tmp_path, sample, snapshot, dtype):
    whole = sample.build(tmp_path / "whole", dtype=dtype)
    for stop in (7, 10, 23, 34):
        with sample.open(tmp_path / "parts", dtype=dtype) as writer:
            sample.feed(writer, stop)  # dropped: what is not a whole shard
    sample.build(tmp_path / "parts", dtype=dtype)
    assert snapshot(tmp_path / "parts") == snapshot(whole)
    EmbeddingStore(whole).verify()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_repeated_row_is_copied_byte_for_byte(tmp_path, sample, dtype):
    def repeat(first: int, last: int) -> Results:
        """Two results that repeat earlier rows around a new one."""
        one = sample.results(0, 2)
        outcomes = [Outcome("item-0", "duplicate", "x"), Outcome("item-1", "ok")]
        new = {name: values[1:] for name, values in one.vectors.items()}
        return Results(one.items, one.inputs, outcomes, [first, None], new)

    with sample.open(tmp_path / "out", dtype=dtype, shard_rows=4) as writer:
        writer.write(sample.results(0, 2))
        writer.write(repeat(1, 0))  # of the shard under way
        writer.write(repeat(0, 0))  # of a committed one
        writer.finish()
    store = EmbeddingStore(tmp_path / "out")
    rows = np.asarray(store.bits() if dtype == "binary" else store.embeddings)
    assert [rows[i].tobytes() for i in (2, 4)] == [rows[i].tobytes() for i in (1, 0)]


@pytest.mark.parametrize("stop", [8, 34])
def test_int8_gives_float_rows_and_maps_as_bytes(tmp_path: Path, sample, stop):
    root = sample.build(tmp_path / "out", stop=stop, dtype="int8")
    store, expected = EmbeddingStore(root), stored(sample, "int8", stop)
    matrix = store.embeddings
    assert isinstance(matrix, DecodedMatrix)
    assert (matrix.shape, matrix.dtype) == (expected.shape, np.float32)
    np.testing.assert_array_equal(np.asarray(matrix), expected)
    np.testing.assert_array_equal(matrix[1:5, :3], expected[1:5, :3])
    np.testing.assert_array_equal(matrix[[-1, 0]], expected[[-1, 0]])
    np.testing.assert_array_equal(matrix[2], expected[2])
    np.testing.assert_array_equal(matrix[np.arange(len(expected)) % 2 == 0], expected[::2])
    np.testing.assert_array_equal(np.concatenate(list(store.blocks(5))), expected)
    np.testing.assert_array_equal(list(matrix), expected)
    mapped = np.load(root / "embeddings" / "part-00000.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert mapped.dtype == np.int8
    assert np.load(root / "scales" / "part-00000.npy", mmap_mode="r").shape == (len(mapped), 1)
    unit = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
    true = expected[: len(mapped)] / np.linalg.norm(expected[: len(mapped)], axis=1, keepdims=True)
    np.testing.assert_allclose(unit, true, atol=1e-6)  # without scales the cosines are right


def test_int8_with_several_outputs_has_a_folder_of_scales_each(tmp_path: Path, two_outputs):
    root = two_outputs.build(tmp_path / "out", dtype="int8")
    assert sorted(path.name for path in (root / "scales").iterdir()) == ["layer-2", "pooled"]
    store = EmbeddingStore(root)
    assert [store.output(name).shape for name in store.outputs] == [(23, 6), (23, 3)]
    assert dict(store.dims) == {"pooled": 6, "layer:2": 3}


@pytest.mark.parametrize("stop", [0, 8, 34])
def test_binary_gives_bits_and_no_numbers(tmp_path: Path, sample, stop):
    store = EmbeddingStore(sample.build(tmp_path / "out", stop=stop, dtype="binary"))
    rows = np.array([sample.vector(i, 6) for i in range(stop) if sample.status(i) != "failed"]).reshape(-1, 6)
    np.testing.assert_array_equal(np.asarray(store.bits()), np.packbits(rows > 0, axis=1))
    assert store.dim == 6
    with pytest.raises(StoreError, match=r"one bit a dimension.*dtype int8"):
        _ = store.embeddings


def test_bits_are_of_binary_stores_only(tmp_path: Path, sample):
    with pytest.raises(StoreError, match="holds float32, not bits"):
        EmbeddingStore(sample.build(tmp_path / "out")).bits()


@pytest.mark.parametrize("dtype", ["int8", "binary"])
def test_a_damaged_part_is_named(tmp_path: Path, sample, dtype):
    root = sample.build(tmp_path / "out", dtype=dtype)
    path = root / ("scales" if dtype == "int8" else "embeddings") / "part-00001.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"part-00001.npy: damaged"):
        EmbeddingStore(root).verify()
    path.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=r"part-00001.npy: damaged"):
        EmbeddingStore(root)
