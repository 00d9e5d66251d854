"""A matrix over many files answers every index as numpy would."""

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from coldpress.errors import StoreError
from coldpress.store import ShardedMatrix
from coldpress.store.matrix import iter_blocks
from coldpress.store.root import LocalRoot

ROWS = (3, 0, 5, 1, 0, 4)
N, D = sum(ROWS), 4
WHOLE = np.arange(N * D, dtype=np.float16).reshape(N, D)


def build(directory: Path, rows=ROWS, whole=WHOLE) -> ShardedMatrix:
    names, start = [f"part-{number:05d}.npy" for number in range(len(rows))], 0
    for name, count in zip(names, rows, strict=True):
        np.save(directory / name, whole[start : start + count])
        start += count
    return ShardedMatrix(LocalRoot(directory), names, rows, whole.shape[1], str(whole.dtype))


@pytest.fixture(scope="module")
def matrix():
    with tempfile.TemporaryDirectory() as directory:
        yield build(Path(directory))


class TestIndexing:
    @given(
        index=npst.basic_indices((N,), allow_newaxis=False, allow_ellipsis=False).map(
            lambda i: i if type(i) is not tuple else i[0] if i else slice(None)
        )
    )
    def test_integers_and_slices(self, matrix, index):
        np.testing.assert_array_equal(matrix[index], WHOLE[index])

    @given(
        index=npst.arrays(
            np.int64, npst.array_shapes(max_dims=2, max_side=9, min_side=0), elements=st.integers(-N, N - 1)
        )
    )
    def test_integer_arrays(self, matrix, index):
        found = matrix[index]
        assert found.shape == (*index.shape, D)
        np.testing.assert_array_equal(found, WHOLE[index])

    @given(mask=npst.arrays(bool, N))
    def test_masks(self, matrix, mask):
        np.testing.assert_array_equal(matrix[mask], WHOLE[mask])

    @given(rows=st.lists(st.integers(-N, N - 1), max_size=5), columns=st.slices(D))
    def test_rows_and_columns(self, matrix, rows, columns):
        expected = WHOLE[np.array(rows, dtype=np.intp)][:, columns]
        np.testing.assert_array_equal(matrix[rows, columns], expected)
        np.testing.assert_array_equal(matrix[:, columns], WHOLE[:, columns])

    @pytest.mark.parametrize("index", [N, -N - 1, [0, N], np.array([-N - 1]), np.zeros(N + 1, bool)])
    def test_out_of_bounds(self, matrix, index):
        with pytest.raises(IndexError):
            matrix[index]

    @pytest.mark.parametrize("index", [1.5, [0.5], "a", None, True, (0, 0, 0), (0, 1)])
    def test_other_indices_are_type_errors(self, matrix, index):
        with pytest.raises(TypeError):
            matrix[index]


def test_what_else_an_array_has(matrix):
    assert (matrix.shape, matrix.ndim, len(matrix), matrix.dtype, matrix.nbytes) == (
        (N, D),
        2,
        N,
        np.float16,
        N * D * 2,
    )
    np.testing.assert_array_equal(np.asarray(matrix), WHOLE)
    assert np.asarray(matrix, dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(list(matrix), list(WHOLE))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(matrix))[:], WHOLE)
    assert repr(matrix) == "ShardedMatrix(13 x 4 float16, 6 shards)"


@given(rows=st.integers(1, N + 2))
def test_blocks_cover_every_row_once(matrix, rows):
    blocks = list(matrix.blocks(rows))
    assert all(len(block) == rows for block in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate(blocks), WHOLE)
    np.testing.assert_array_equal(np.concatenate(list(iter_blocks(WHOLE, rows))), WHOLE)


def test_a_slice_of_one_shard_is_a_view_of_the_file(matrix):
    assert not matrix[3:6].flags.owndata
    assert not matrix[3:6].flags.writeable
    assert type(matrix[3:6]) is np.ndarray


def test_more_shards_than_a_process_has_files(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    whole = np.arange(600, dtype=np.float32).reshape(300, 2)
    matrix = build(tmp_path, rows=[1] * 300, whole=whole)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
    try:
        np.testing.assert_array_equal(matrix[::-1], whole[::-1])
        np.testing.assert_array_equal(np.asarray(matrix), whole)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_is_not_that_matrix_is_named(tmp_path):
    matrix = build(tmp_path)
    np.save(tmp_path / "part-00002.npy", np.zeros((5, D + 1), np.float16))
    with pytest.raises(StoreError, match=r"part-00002.npy: damaged: holds float16 \(5, 5\), expected float16 \(5, 4\)"):
        matrix[4]
    (tmp_path / "part-00003.npy").write_bytes(b"no npy")
    with pytest.raises(StoreError, match=r"part-00003.npy: cannot be read"):
        matrix[8]
