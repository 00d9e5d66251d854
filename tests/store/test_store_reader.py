"""Reading a store, and what it says about one that is not whole."""

import json

import numpy as np
import pytest

from coldpress.errors import StoreError
from coldpress.store import EmbeddingStore, Keys, ShardedMatrix


@pytest.fixture
def root(tmp_path, sample):
    return sample.build(tmp_path / "out", stop=34)


def edit(root, change):
    path = root / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_everything_is_there(root, sample):
    store = EmbeddingStore(root)
    good = [i for i in range(34) if sample.status(i) != "failed"]
    assert isinstance(store.embeddings, ShardedMatrix)
    np.testing.assert_array_equal(store.embeddings[:], [sample.vector(i, 6) for i in good])
    assert (len(store), store.inputs, store.failed, store.duplicates) == (23, 34, 11, 3)
    assert (store.dim, store.dtype, store.model, store.source, store.outputs) == (
        6,
        "float32",
        "mini",
        "a.txt",
        ("pooled",),
    )
    assert store.description == {"device": "cpu"}
    assert store.fingerprint.fields["text"]["max_tokens"] == 256
    assert store.metadata.num_rows == 23
    assert store.read_metadata(["label"]).column("label").to_pylist() == [f"class {i % 4}" for i in good]
    assert store.columns == ("key", "source", "content_hash", "num_tokens", "truncated", "label")
    assert store.outcomes.num_rows == 34
    assert repr(store) == f"EmbeddingStore('{root}': 23 x 6 float32, mini, complete)"
    store.verify()


def test_some_rows_of_the_metadata_need_no_other_shard(root, sample):
    store = EmbeddingStore(root)
    whole = store.metadata
    rows = [20, 3, 21, 3, 0]
    assert store.take_metadata(rows).equals(whole.take(rows).combine_chunks())
    (root / "metadata" / "part-00001.parquet").unlink()
    assert store.take_metadata(rows, ["label", "key"]).equals(whole.take(rows).select(["label", "key"]))
    assert store.take_metadata([], ["key"]).equals(whole.slice(0, 0).select(["key"]))
    with pytest.raises(StoreError, match=r"part-00001.parquet: cannot be read"):
        store.take_metadata([10])
    with pytest.raises(IndexError, match="rows 0 to 23, expected 0 to 22"):
        store.take_metadata([0, 23])


def test_one_shard_is_a_numpy_memmap(tmp_path, sample):
    store = EmbeddingStore(sample.build(tmp_path / "one", stop=8))
    assert isinstance(store.embeddings, np.memmap)
    assert not store.embeddings.flags.writeable
    assert [block.shape for block in store.blocks(4)] == [(4, 6), (2, 6)]


def test_a_store_without_inputs_is_empty_and_complete(tmp_path, sample):
    store = EmbeddingStore(sample.build(tmp_path / "none", stop=0))
    assert store.complete
    assert store.embeddings.shape == (0, 6)
    assert len(store.keys) == 0
    assert store.outcomes.num_rows == 0
    assert store.metadata.num_rows == 0
    assert "no row" not in store.keys


def test_keys_behave_like_a_list_of_strings(root, sample):
    keys = EmbeddingStore(root).keys
    expected = [f"item-{i}" for i in range(34) if sample.status(i) != "failed"]
    assert isinstance(keys, Keys)
    assert list(keys) == expected
    assert keys[0] == "item-0"
    assert keys[-1] == keys[np.int64(len(expected) - 1)] == expected[-1]
    assert keys[2:5].tolist() == expected[2:5]
    assert keys[[3, 0]].tolist() == [expected[3], expected[0]]
    assert np.asarray(keys).tolist() == expected
    assert np.asarray(keys, dtype=object)[1] == expected[1]
    assert "item-0" in keys
    assert "item-2" not in keys
    assert 0 not in keys
    assert len(keys.to_arrow()) == len(keys)
    with pytest.raises(IndexError):
        keys[len(expected)]


def test_the_row_of_a_key(root):
    store = EmbeddingStore(root)
    for row, key in enumerate(store.keys):
        assert store.row(key) == row
    with pytest.raises(StoreError, match=r"no row with key 'item-2'.*outcomes"):
        store.row("item-2")


def test_repeated_and_unusual_keys_are_found():
    import pyarrow as pa

    names = ["b", "", "a", "é", "b", "😀", "Z"]
    keys = Keys(pa.array(names, pa.large_string()))
    assert [keys.find(name) for name in names] == [0, 1, 2, 3, 0, 5, 6]


@pytest.mark.parametrize(
    "name", ["embeddings/part-00002.npy", "metadata/part-00001.parquet", "outcomes/part-00003.parquet"]
)
class TestDamage:
    def test_a_missing_file_is_named(self, root, name):
        (root / name).unlink()
        with pytest.raises(StoreError, match=f"{name}: cannot be read: No such file"):
            EmbeddingStore(root)

    def test_a_file_cut_off_is_named(self, root, name):
        (root / name).write_bytes((root / name).read_bytes()[:-1])
        with pytest.raises(StoreError, match=f"{name}: damaged: .* bytes, expected"):
            EmbeddingStore(root)

    def test_verify_finds_one_flipped_bit(self, root, name):
        content = bytearray((root / name).read_bytes())
        content[len(content) // 2] ^= 1
        (root / name).write_bytes(bytes(content))
        store = EmbeddingStore(root)
        with pytest.raises(StoreError, match=f"{name}: damaged: sha256"):
            store.verify()


def test_no_store_at_all(tmp_path):
    with pytest.raises(StoreError, match="no such directory"):
        EmbeddingStore(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"has no manifest\.json: not a store"):
        EmbeddingStore(tmp_path)


def test_a_manifest_that_is_not_json(root):
    (root / "manifest.json").write_text('{"format": "coldpre')
    with pytest.raises(StoreError, match="damaged, not valid JSON"):
        EmbeddingStore(root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(format_version=3), "store format version 3, this coldpress reads version 1 and 2; upgrade"),
        (lambda m: m.update(format="zarr"), "not the manifest of a store"),
        (lambda m: m.pop("shards"), "damaged"),
        (lambda m: m.update(shards=3), "damaged"),
        (lambda m: m["shards"][0].pop("rows"), "damaged"),
        (lambda m: m["shards"][0].update(failed=2), "does not add up"),
        (lambda m: m.update(dtype="float8"), "dtype 'float8'"),
        (lambda m: m["fingerprint"]["fields"].update(weights="other"), "fingerprint and its digest differ"),
        (lambda m: m["outputs"][0].update(directory="../../etc"), "expected a plain name"),
        (lambda m: m["shards"][0]["files"].update({"../secret": {"size": 1, "sha256": ""}}), "shard 0 lists"),
    ],
)
def test_a_manifest_that_says_something_impossible(root, change, words):
    edit(root, change)
    with pytest.raises(StoreError) as caught:
        EmbeddingStore(root)
    assert words in str(caught.value)


def test_a_store_can_be_read_while_it_is_written(tmp_path, sample):
    with sample.open(tmp_path / "out") as writer:
        assert len(EmbeddingStore(tmp_path / "out")) == 0
        sample.feed(writer, 27)
        store = EmbeddingStore(tmp_path / "out")
        assert (store.inputs, store.complete) == (20, False)
        assert store.embeddings[:].shape == (14, 6)
