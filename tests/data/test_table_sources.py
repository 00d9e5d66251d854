"""Arrow files, Hugging Face datasets and tables in memory: the same rules for columns, images left encoded."""

import datetime
import decimal
import io
import json
import logging
import subprocess
import sys

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from pyarrow import feather, ipc
from source_files import read, reason, remote, until_error, write

from coldpress.data import Columns, open_source
from coldpress.errors import SourceError
from coldpress.types import FileRef

TABLE = pa.table({"text": [f"t{i}" for i in range(10)], "label": range(10), "id": [f"k{i}" for i in range(10)]})
PHOTOS = [{"bytes": b"raw", "path": "x.jpg"}, {"bytes": None, "path": "y.jpg"}, None]


def arrow(table: pa.Table, layout: str, rows: int = 3, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    new = ipc.new_file if layout == "file" else ipc.new_stream
    with new(sink, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue().to_pybytes()


def png(value: int) -> bytes:
    packed = io.BytesIO()
    PIL.Image.new("RGB", (4, 4), (value, 0, 0)).save(packed, "png")
    return packed.getvalue()


class TestArrowFiles:
    @pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
    @pytest.mark.parametrize("layout", ["file", "stream"])
    def test_both_layouts_local_and_remote(self, tmp_path, layout, compression):
        content = arrow(TABLE, layout, compression=compression)
        local = write(tmp_path / "a.arrow", content)
        for location in (local, remote("/tables/a.arrow", content)):
            source = open_source(location, modality="text", columns=Columns(key="id"))
            items = list(source.items())
            assert [(i.key, i.content, i.metadata) for i in items[:2]] == [
                ("k0", "t0", {"label": 0}),
                ("k1", "t1", {"label": 1}),
            ]
            assert source.count == (10 if location is local else None)
            for start in range(12):
                assert list(source.items(start)) == items[start:]

    def test_feather_files_and_images(self, tmp_path):
        feather.write_feather(pa.table({"image": PHOTOS}), str(tmp_path / "a.feather"))
        items = read(tmp_path / "a.feather", "image")
        assert [item.content for item in items[:2]] == [b"raw", FileRef(str(tmp_path / "y.jpg"))]
        assert items[0].key == "a.feather:1"
        assert "is null" in reason(items[2])

    @pytest.mark.parametrize("layout", ["file", "stream"])
    def test_damaged_files_are_errors(self, tmp_path, layout):
        content = arrow(TABLE, layout)
        with pytest.raises(SourceError, match=r"a\.arrow: not a readable Arrow file"):
            read(write(tmp_path / "a.arrow", b"no table"))
        with pytest.raises(SourceError, match="not a readable Arrow file"):
            read(write(tmp_path / "b.arrow", b""))
        cut = write(tmp_path / "c.arrow", content[: len(content) // 2])
        if layout == "file":  # its directory is at the end
            with pytest.raises(SourceError, match="not a readable Arrow file"):
                read(cut)
        else:
            items, error = until_error(cut, "text")
            assert [item.content for item in items] == [f"t{i}" for i in range(len(items))]
            assert f"c.arrow: damaged after row {len(items)}" in error
            assert open_source(cut, modality="text").count is None

    @pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
    def test_offsets_outside_of_the_data_are_errors_and_not_foreign_memory(self, tmp_path, kind):
        offset = pa.int64() if kind == pa.large_string() else pa.int32()
        buffers = [None, pa.array([0, 4, 2**30, 8], offset).buffers()[1], pa.py_buffer(b"abcdefgh")]
        table = pa.table({"text": pa.Array.from_buffers(kind, 3, buffers)})
        items, error = until_error(write(tmp_path / "a.arrow", arrow(table, "stream")), "text")
        assert items == []
        assert "damaged after row 0" in error

    def test_a_string_that_is_not_utf8_fails_alone(self, tmp_path):
        raw = pa.array([b"good", b"b\xe9d"])
        table = pa.table({"text": pa.Array.from_buffers(pa.string(), 2, raw.buffers())})
        items = read(write(tmp_path / "a.arrow", arrow(table, "stream")))
        assert items[0].content == "good"
        assert "not UTF-8" in reason(items[1])

    def test_every_scalar_column_can_be_carried(self, tmp_path):
        times = pa.array([10**18 + 1], pa.timestamp("ns"))
        columns = {
            "text": ["a"],
            "n": [1],
            "x": [0.5],
            "ok": [True],
            "day": [datetime.date(2026, 11, 25)],
            "price": [decimal.Decimal("1.50")],
            "when": times,
            "word": pa.array(["w"]).dictionary_encode(),
            "tags": [["a"]],
            "raw": [b"b"],
            "source": ["kept out: the store has it"],
            "empty": pa.nulls(1),
        }
        path = write(tmp_path / "a.arrow", arrow(pa.table(columns), "stream"))
        assert read(path, metadata="*")[0].metadata == {
            "n": 1,
            "x": 0.5,
            "ok": True,
            "day": "2026-11-25",
            "price": "1.50",
            "when": "2001-09-09 01:46:40.000000001",
            "word": "w",
        }
        assert read(path, metadata=("tags", "raw", "n"))[0].metadata == {"tags": '["a"]', "raw": "b", "n": 1}


class TestSavedDatasets:
    def save(self, folder, files=2, split=None):
        folder.mkdir(parents=True)
        names = [f"data-0000{i}-of-0000{files}.arrow" for i in range(files)]
        for i, name in enumerate(names):
            write(folder / name, arrow(TABLE.slice(i * 5, 5), "stream"))
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
        (folder / "dataset_info.json").write_text("{}")
        return folder

    def test_rows_of_all_files_are_numbered_through(self, tmp_path):
        folder = self.save(tmp_path / "news")
        source = open_source(folder, modality="text")
        items = list(source.items())
        assert [item.content for item in items] == [f"t{i}" for i in range(10)]
        assert (items[7].key, items[7].source) == ("news:8", f"{folder}:8")
        assert source.count == 10
        for start in range(12):
            assert list(source.items(start)) == items[start:]

    def test_image_paths_start_from_the_directory(self, tmp_path):
        folder = self.save(tmp_path / "photos", files=1)
        write(folder / "data-00000-of-00001.arrow", arrow(pa.table({"image": PHOTOS}), "stream"))
        assert read(folder, "image")[1].content == FileRef(str(folder / "y.jpg"))

    def test_over_fsspec(self, tmp_path):
        for path in self.save(tmp_path / "news").iterdir():
            remote(f"/saved/news/{path.name}", path.read_bytes())
        assert [item.key for item in read("memory://saved/news")] == [f"news:{i}" for i in range(1, 11)]

    def test_splits_are_named_and_chosen_by_name_or_pattern(self, tmp_path):
        for split in ("train", "test"):
            self.save(tmp_path / "news" / split)
        (tmp_path / "news" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        with pytest.raises(SourceError, match=r"holds the splits train, test; name one or more: .*news/train"):
            read(tmp_path / "news")
        (tmp_path / "news" / "dataset_dict.json").write_text("{}")
        with pytest.raises(SourceError, match=r"holds the splits \(none\)"):
            read(tmp_path / "news")
        keys = [item.key for item in read(f"{tmp_path}/news/{{train,test}}")]
        assert (keys[0], keys[-1], len(set(keys))) == ("train:1", "test:10", 20)

    def test_bad_directories_are_refused(self, tmp_path):
        folder = self.save(tmp_path / "news")
        for state, words in (
            ("{oops", "not valid JSON"),
            ("[]", "expected an object"),
            ('{"_data_files": []}', "expected names of files"),
            ('{"_data_files": [{"filename": "../x.arrow"}]}', "expected names of files"),
            ('{"_data_files": [{"filename": "gone.arrow"}]}', "gone.arrow: cannot be opened"),
            ('{"_data_files": [{"filename": "a"}], "_indices_data_files": [{}]}', "index over its rows"),
        ):
            (folder / "state.json").write_text(state)
            with pytest.raises(SourceError, match=words):
                read(folder)

    def test_the_package_is_not_needed(self, tmp_path):
        code = (
            "import sys; from coldpress.data import open_source; "
            f"print(sum(1 for _ in open_source({str(self.save(tmp_path / 'd'))!r}, modality='text').items())); "
            "print('datasets' in sys.modules)"
        )
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert shown.stdout.split() == ["10", "False"]


class TestDatasetObjects:
    @pytest.fixture
    def datasets(self):
        return pytest.importorskip("datasets")

    @pytest.fixture
    def photos(self, datasets):
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
        rows = {"image": [{"bytes": png(i), "path": None} for i in range(10)], "label": [0, 1] * 5}
        return datasets.Dataset.from_dict(rows, features=features)

    def test_images_stay_encoded_and_labels_stay_integers(self, photos):
        source = open_source(photos, modality="image")
        items = list(source.items())
        assert [(i.key, i.content, i.metadata) for i in items] == [
            (str(i), png(i), {"label": i % 2}) for i in range(10)
        ]
        assert source.count == 10
        for start in range(12):
            assert list(source.items(start)) == items[start:]

    def test_selected_and_shuffled_rows_come_in_the_order_of_the_dataset(self, photos):
        chosen = photos.select([7, 2, 9]).map(lambda row: row)
        assert [item.content for item in read(photos.select([7, 2, 9]), "image")] == [png(7), png(2), png(9)]
        assert len(read(chosen, "image")) == 3
        shuffled = photos.shuffle(seed=3)
        assert [i.metadata["label"] for i in read(shuffled, "image")] == list(shuffled["label"])

    def test_a_format_of_the_dataset_changes_nothing_and_a_transform_is_warned_about(self, photos, caplog):
        plain = read(photos, "image")
        assert read(photos.with_format("numpy", columns=["label"]), "image") == plain
        with caplog.at_level(logging.WARNING):
            assert read(photos.with_transform(lambda rows: rows), "image") == plain
        assert "transform of the dataset is not applied" in caplog.text

    def test_iterable_datasets(self, datasets, photos):
        stream = photos.to_iterable_dataset(num_shards=2)
        source = open_source(stream, modality="image")
        items = list(source.items())
        assert [item.content for item in items] == [png(i) for i in range(10)]
        assert source.count is None
        for start in (0, 3, 9, 10, 11):
            assert list(source.items(start)) == items[start:]
        rows = datasets.IterableDataset.from_generator(lambda: ({"text": f"t{i}", "n": i} for i in range(3)))
        assert [(i.content, i.metadata) for i in read(rows, metadata="*")] == [(f"t{i}", {"n": i}) for i in range(3)]

    def test_what_the_package_saves_is_read_without_it(self, photos, tmp_path):
        photos.save_to_disk(tmp_path / "photos", num_shards=3)
        assert [(i.content, i.metadata) for i in read(tmp_path / "photos", "image")] == [
            (i.content, i.metadata) for i in read(photos, "image")
        ]

    def test_a_dictionary_of_splits_is_refused(self, datasets, photos):
        with pytest.raises(SourceError, match=r"splits train, test; give one, as in data\['train'\]"):
            read(datasets.DatasetDict(train=photos, test=photos), "image")

    def test_columns_are_checked_as_everywhere(self, photos):
        with pytest.raises(SourceError, match="columns are 'image', 'label', none is known to hold the text"):
            read(photos)


class TestTables:
    def frames(self):
        yield TABLE
        yield TABLE.to_batches()[0]
        for package in ("pandas", "polars", "duckdb"):
            try:
                module = __import__(package)
            except ImportError:
                continue
            if package == "pandas":
                yield TABLE.to_pandas()
                yield TABLE.to_pandas().set_index(np.arange(10) + 5)
            else:
                yield module.from_arrow(TABLE)

    def test_every_kind_of_table_gives_the_same_items(self):
        expected = None
        for frame in self.frames():
            source = open_source(frame, modality="text", columns=Columns(key="id", metadata="*"))
            items = list(source.items())
            expected = expected or items
            assert items == expected, type(frame)
            assert source.count == 10
            for start in (0, 4, 10, 11):
                assert list(source.items(start)) == items[start:]
        assert (expected[3].key, expected[3].content, expected[3].metadata) == ("k3", "t3", {"label": 3})
        assert [item.key for item in read(TABLE)][:2] == ["0", "1"]

    def test_large_batches_and_many(self):
        table = pa.concat_tables([pa.table({"text": [f"{k}-{i}" for i in range(3000)]}) for k in range(3)])
        source = open_source(table, modality="text")
        texts = table["text"].to_pylist()
        for start in (0, 1023, 1024, 2999, 3000, 7000, 9000):
            assert [item.content for item in source.items(start)] == texts[start:]

    def test_a_reader_is_read_once(self):
        source = open_source(TABLE.to_reader(), modality="text")
        assert len(list(source.items())) == 10
        with pytest.raises(SourceError, match="read already"):
            list(source.items())

    def test_image_paths_start_from_the_working_directory(self):
        assert read(pa.table({"image": ["a/b.jpg"]}), "image")[0].content == FileRef("a/b.jpg")

    def test_single_columns_are_contents_and_odd_columns_are_explained(self):
        for column in (TABLE["text"], TABLE["text"].chunk(0)):
            assert [item.content for item in read(column)] == [f"t{i}" for i in range(10)]
        pandas = pytest.importorskip("pandas")
        assert [(i.key, i.content) for i in read(pandas.Series(["a", "b"], index=[7, 8]))] == [("0", "a"), ("1", "b")]
        with pytest.raises(SourceError, match="has no Arrow form"):
            read(pandas.DataFrame({"image": [PIL.Image.new("RGB", (2, 2)), 3]}), "image")
