"""Writing a store: layout, refusals, and what the files look like to other tools."""

import json
import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest

from coldpress.errors import FingerprintMismatch, StoreError
from coldpress.store import EmbeddingStore
from coldpress.store.files import npy_header
from coldpress.types import Certificate, Fingerprint, ImageInput, Item, Outcome, Results

CERTIFICATE = Certificate("int8", 256, 0.999, 0.99, 0.01, 10, 0.97, passed=True)


def one(metadata, *, key="k", vector=(1.0,) * 6) -> Results:
    """The result of a single image."""
    source = ImageInput(np.zeros((1, 1, 3), np.uint8), "hash")
    vectors = {"pooled": np.array([vector], np.float32)}
    return Results([Item(key, b"", "src", metadata)], [source], [Outcome(key, "ok")], [None], vectors)


def test_the_layout_on_disk(tmp_path, sample, snapshot):
    root = sample.build(tmp_path / "out", stop=34)
    parts = [f"part-{k:05d}" for k in range(4)]
    expected = {f"embeddings/{part}.npy" for part in parts}
    expected |= {f"{kind}/{part}.parquet" for kind in ("metadata", "outcomes") for part in parts}
    assert set(snapshot(root)) == expected | {"manifest.json", ".lock"}
    manifest = json.loads((root / "manifest.json").read_text())
    assert [(s["inputs"], s["rows"], s["failed"], s["duplicates"]) for s in manifest["shards"]] == [
        (10, 7, 3, 1),
        (10, 7, 3, 1),
        (10, 6, 4, 1),
        (4, 3, 1, 0),
    ]
    assert manifest["complete"] is True


def test_numpy_and_pyarrow_read_it_without_coldpress(tmp_path, sample):
    root = sample.build(tmp_path / "out", stop=34)
    matrices = [np.load(path, mmap_mode="r") for path in sorted((root / "embeddings").glob("*.npy"))]
    assert all(matrix.flags.c_contiguous for matrix in matrices)
    good = [i for i in range(34) if sample.status(i) != "failed"]
    np.testing.assert_array_equal(np.concatenate(matrices), [sample.vector(i, 6) for i in good])
    metadata = pa.dataset.dataset(root / "metadata").to_table()
    assert metadata.column_names == ["key", "source", "content_hash", "num_tokens", "truncated", "label"]
    assert metadata.column("key").to_pylist() == [f"item-{i}" for i in good]
    assert metadata.column("truncated").to_pylist() == [i % 2 == 0 for i in good]
    outcomes = pa.dataset.dataset(root / "outcomes").to_table()
    assert outcomes.column("status").to_pylist() == [sample.status(i) for i in range(34)]
    assert outcomes.column("reason").to_pylist()[6] == "item-0"


@pytest.mark.parametrize(
    ("rows", "dim", "dtype"), [(0, 1, "float16"), (65_536, 768, "float16"), (10**9, 4096, "float32")]
)
def test_the_npy_header_is_numpys_own(tmp_path, rows, dim, dtype):
    shape_only = np.lib.stride_tricks.as_strided(np.zeros(1, dtype), (rows, dim), (0, 0))
    with (tmp_path / "a.npy").open("wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape_only.shape}
        np.lib.format.write_array_header_1_0(file, header)
    assert npy_header(rows, dim, dtype) == (tmp_path / "a.npy").read_bytes()


def test_several_outputs_have_their_own_directories(tmp_path, sample):
    sample.dims = {"layer:3": 2, "layer/3": 5, "pooled": 3, "..": 1}
    root = sample.build(tmp_path / "out")
    directories = sorted(path.name for path in (root / "embeddings").iterdir())
    assert directories == ["layer-3", "layer-3-2", "output", "pooled"]
    store = EmbeddingStore(root)
    assert store.outputs == ("layer:3", "layer/3", "pooled", "..")
    assert [store.output(name).shape[1] for name in store.outputs] == [2, 5, 3, 1]
    assert store.embeddings.shape[1] == store.dim == 2


def test_float16_rounds_and_refuses_overflow(tmp_path, sample):
    store = EmbeddingStore(sample.build(tmp_path / "half", dtype="float16", stop=10))
    np.testing.assert_array_equal(store.embeddings[0], sample.vector(0, 6).astype(np.float16))
    with sample.open(tmp_path / "big", dtype="float16") as writer:
        writer.write(one({}, vector=[65_504.0] * 6))
        with pytest.raises(StoreError, match=r"70000, more than float16 can \(65504\); store with --dtype float32"):
            writer.write(one({}, vector=[0, 0, 0, 0, 0, 70_000]))
        with pytest.raises(ValueError, match="closed"):
            writer.write(one({}))
    assert len(EmbeddingStore(tmp_path / "big")) == 0


def test_vectors_that_are_not_finite_never_reach_the_disk(tmp_path, sample):
    with sample.open(tmp_path / "out") as writer, pytest.raises(ValueError, match="NaN"):
        writer.write(one({}, vector=[np.nan] * 6))


def test_another_fingerprint_is_refused_with_every_difference(tmp_path, sample):
    root = sample.build(tmp_path / "out")
    other = Fingerprint({"weights": "abc", "text": {"max_tokens": 512, "prompt": "query: "}, "precision": "fp32"})
    with pytest.raises(FingerprintMismatch) as caught:
        sample.open(root, fingerprint=other)
    assert "text.max_tokens: 256 != 512; text.prompt: '' != 'query: ';" in str(caught.value)
    assert "weights" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dtype": "float16"}, "dtype 'float32', this run has 'float16'"),
        ({"shard_rows": 20}, "shard_rows 10, this run has 20"),
        ({"source": "b.txt"}, "source 'a.txt', this run has 'b.txt'"),
        ({"dims": {"pooled": 7}}, "outputs {'pooled': 6}, this run has {'pooled': 7}"),
    ],
)
def test_a_store_is_only_continued_as_it_was_begun(tmp_path, sample, changed, words):
    root = sample.build(tmp_path / "out")
    with pytest.raises(StoreError) as caught:
        sample.open(root, **changed)
    assert words in str(caught.value)


def test_a_store_without_a_shard_may_be_begun_anew_with_other_settings(tmp_path, sample, snapshot):
    other = Fingerprint({"weights": "abc", "precision": "bf16"})
    sample.open(tmp_path / "out", fingerprint=other, shard_rows=7, dims={"last": 3}, description={"a": 1}).close()
    sample.build(tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(sample.build(tmp_path / "new"))


@pytest.mark.parametrize("changed", [{"dtype": "int7"}, {"shard_rows": 0}, {"dims": {}}, {"dims": {"pooled": 0}}])
def test_impossible_settings_are_refused_before_anything_is_created(tmp_path, sample, changed):
    with pytest.raises(StoreError, match="expected"):
        sample.open(tmp_path / "out", **changed)
    assert not (tmp_path / "out").exists()


def test_a_directory_of_something_else_is_left_alone(tmp_path, sample, snapshot):
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(StoreError, match=r"not empty and not a store \(it has 'thesis.doc'"):
        sample.open(tmp_path)
    assert list(snapshot(tmp_path)) == ["thesis.doc"]
    with pytest.raises(StoreError, match="is a file, expected a directory"):
        sample.open(tmp_path / "thesis.doc")


def test_a_complete_store_is_not_written_again(tmp_path, sample, snapshot):
    root = sample.build(tmp_path / "out", stop=34)
    before = snapshot(root)
    with sample.open(root) as writer:
        assert writer.passes == 1
        assert writer.committed_inputs == 34
        writer.finish()
    assert snapshot(root) == before


def test_the_certificate_is_set_before_the_first_shard(tmp_path, sample):
    with sample.open(tmp_path / "out") as writer:
        assert writer.certificate is None
        writer.certificate = CERTIFICATE
        sample.feed(writer, 10)
        with pytest.raises(StoreError, match="before the first row"):
            writer.certificate = CERTIFICATE
    assert EmbeddingStore(tmp_path / "out").certificate == CERTIFICATE
    with sample.open(tmp_path / "out") as writer:
        assert writer.certificate == CERTIFICATE


def test_results_out_of_step_are_refused(tmp_path, sample):
    good = sample.results(0, 5)
    wrong = [
        replace(good, vectors={"pooled": good.vectors["pooled"][:-1]}),
        replace(good, vectors={"other": good.vectors["pooled"]}),
        replace(good, outcomes=good.outcomes[::-1]),
        replace(good, inputs=good.inputs[:-1]),
        sample.results(0, 11),
    ]
    with sample.open(tmp_path / "out") as writer:
        for results in wrong:
            with pytest.raises(ValueError, match=r"expected|belong"):
                writer.write(results)
        writer.write(good)


class TestMetadata:
    """Columns are fixed by the first shard with a row."""

    def build(self, path, sample, *rows):
        with sample.open(path, shard_rows=2) as writer:
            for number, metadata in enumerate(rows):
                writer.write(one(metadata, key=f"k{number}"))
            writer.finish()
        return EmbeddingStore(path).metadata

    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            ((1, None), pa.int64()),
            ((1, 2.5), pa.float64()),
            ((True, False), pa.bool_()),
            ((1, "a"), pa.string()),
            ((True, 1), pa.string()),
            ((2**70, 1), pa.string()),
            ((None, None), pa.string()),
            ((np.int64(3), np.float32(1)), pa.float64()),
        ],
    )
    def test_types(self, tmp_path, sample, values, kind):
        table = self.build(tmp_path / "out", sample, *({"label": value} for value in values))
        assert table.schema.field("label").type == kind
        expected = [value if value is None or kind != pa.string() else str(value) for value in values]
        assert table.column("label").to_pylist() == expected

    def test_later_shards_follow_and_losses_are_logged_once(self, tmp_path, sample, caplog):
        rows = [{"n": 1}, {"n": 2}, {"n": "three"}, {}, {"n": 5, "new": 1}, {"n": "six", "new": 2}]
        with caplog.at_level(logging.WARNING):
            table = self.build(tmp_path / "out", sample, *rows)
        assert table.column("n").to_pylist() == [1, 2, None, None, 5, None]
        assert "new" not in table.column_names
        assert len(caplog.records) == 2
        assert {path.name for path in (tmp_path / "out/metadata").iterdir()} == {
            f"part-0000{k}.parquet" for k in range(3)
        }

    def test_a_first_shard_without_rows_fixes_nothing(self, tmp_path, sample):
        failed = replace(
            one({"label": "a"}),
            outcomes=[Outcome("k", "failed", "bad")],
            copies=[],
            vectors={"pooled": np.zeros((0, 6), np.float32)},
        )
        with sample.open(tmp_path / "out", shard_rows=1) as writer:
            writer.write(failed)
            writer.write(one({"label": "b"}))
            writer.finish()
        store = EmbeddingStore(tmp_path / "out")
        assert store.metadata.column("label").to_pylist() == ["b"]
        assert store.embeddings[:].shape == (1, 6)
        assert list(store.keys) == ["k"]

    def test_reserved_names_are_refused(self, tmp_path, sample):
        with sample.open(tmp_path / "out") as writer, pytest.raises(StoreError, match=r"'source'.*rename"):
            writer.write(one({"source": "mine"}))

    def test_lone_surrogates_and_nul_bytes_do_not_stop_a_run(self, tmp_path, sample):
        table = self.build(tmp_path / "out", sample, {"label": "\ud800"}, {"label": "a\0b"})
        assert table.column("label").to_pylist() == ["\\ud800", "a\0b"]
