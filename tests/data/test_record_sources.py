"""Text lines, JSON lines, CSV and parquet: records become items, bad records become failed items."""

import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldpress.data import Columns, open_source
from coldpress.errors import SourceError
from coldpress.types import Failed, FileRef


def read(path, modality="text", start=0, **columns):
    return list(open_source(path, modality=modality, columns=Columns(**columns)).items(start))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def reason(item) -> str:
    assert isinstance(item.content, Failed), item
    return item.content.reason


class TestLines:
    def test_every_line_is_an_item_and_empty_ones_keep_the_numbering(self, tmp_path):
        path = write(tmp_path / "a.txt", "\ufefffirst\r\n\nthird \u2028 still third\nlast")
        items = read(path)
        assert [item.content for item in items] == ["first", "", "third \u2028 still third", "last"]
        assert [item.key for item in items] == ["a.txt:1", "a.txt:2", "a.txt:3", "a.txt:4"]
        assert items[2].source == f"{path}:3"
        assert read(path, start=2) == items[2:]
        assert read(path, start=9) == []

    def test_a_line_that_is_not_utf8_fails_alone(self, tmp_path):
        items = read(write(tmp_path / "a.txt", b"good\nb\xe9d\nfine\n"))
        assert [items[0].content, items[2].content] == ["good", "fine"]
        assert reason(items[1]).startswith("not UTF-8: byte 0xe9 at position 1")

    def test_utf16_is_refused_with_the_remedy(self, tmp_path):
        with pytest.raises(SourceError, match=r"UTF-16.*iconv"):
            read(write(tmp_path / "a.txt", "text".encode("utf-16")))

    def test_for_images_a_line_is_a_path_beside_the_file(self, tmp_path):
        items = read(write(tmp_path / "list.txt", "a.jpg\n\n/abs/b.jpg\ns3://bucket/c.jpg\n"), "image")
        assert items[0].content == FileRef(str(tmp_path / "a.jpg"))
        assert "empty line" in reason(items[1])
        assert [items[2].content.url, items[3].content.url] == ["/abs/b.jpg", "s3://bucket/c.jpg"]

    def test_over_fsspec(self):
        fsspec.filesystem("memory").pipe("/corpus/a.txt", b"one\ntwo\n")
        (item,) = read("memory://corpus/a.txt", start=1)
        assert (item.key, item.content, item.source) == ("a.txt:2", "two", "memory://corpus/a.txt:2")


class TestJsonLines:
    def test_columns_labels_and_keys(self, tmp_path):
        lines = [{"text": "a", "label": 1, "id": "x", "more": [1]}, {"id": 7, "label": "neg", "text": "b"}]
        path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
        assert [(i.key, i.content, i.metadata) for i in read(path)] == [
            ("a.jsonl:1", "a", {"label": 1}),
            ("a.jsonl:2", "b", {"label": "neg"}),
        ]
        assert [item.key for item in read(path, key="id")] == ["x", "7"]
        assert [item.metadata for item in read(path, label="more")] == [{"more": "[1]"}, {"more": None}]

    def test_bad_lines_fail_alone_and_blank_lines_are_no_records(self, tmp_path):
        good = '{"text": "good", "id": "k"}'
        bad = ["{oops", "[1]", '{"other": 1}', '{"text": 3, "id": "k3"}', '{"text": null}', "[" * 100_000]
        path = write(tmp_path / "a.jsonl", "\n".join([good, "", *bad]).encode() + b'\n{"text": "\xff"}\n')
        items = read(path)
        assert [item.key for item in items] == [f"a.jsonl:{n}" for n in (1, 3, 4, 5, 6, 7, 8, 9)]
        expected = [
            "not valid JSON",
            "record is list",
            "no column 'text'",
            "is int",
            "is null",
            "not valid",
            "not UTF-8",
        ]
        for item, words in zip(items[1:], expected, strict=True):
            assert words in reason(item)
        assert read(path, start=3) == items[3:]
        assert reason(read(path, key="id")[5]).startswith("no key: column 'id' is null")

    def test_the_text_column_is_never_guessed(self, tmp_path):
        path = write(tmp_path / "a.jsonl", '{"text": "a", "sentence": "b", "n": 1}')
        with pytest.raises(SourceError, match=r"'text', 'sentence', 'n'.*'text', 'sentence' could.*--text-column"):
            read(path)
        assert read(path, text="sentence")[0].content == "b"
        with pytest.raises(SourceError, match=r"no column 'body'; its columns are 'text'.*--text-column"):
            read(path, text="body")
        with pytest.raises(SourceError, match=r"no column 'nope'.*--label-column"):
            read(path, text="text", label="nope")
        with pytest.raises(SourceError, match="none is known to hold the text"):
            read(write(tmp_path / "b.jsonl", '{"a": "x", "b": "y"}'))

    def test_a_file_without_objects_is_refused(self, tmp_path):
        with pytest.raises(SourceError, match="no JSON object"):
            read(write(tmp_path / "a.jsonl", ""))


class TestCsv:
    def test_quoted_lines_numbers_and_labels(self, tmp_path):
        path = write(tmp_path / "a.csv", 'text,label\n"two\nlines",pos\n\n"say ""hi""",\n')
        items = read(path)
        assert [(i.key, i.content, i.metadata["label"]) for i in items] == [
            ("a.csv:2", "two\nlines", "pos"),
            ("a.csv:5", 'say "hi"', ""),
        ]
        assert read(path, start=1) == items[1:]

    def test_ragged_rows_and_bad_bytes_fail_alone(self, tmp_path):
        path = write(tmp_path / "a.csv", b"id,text\n1,a,b\n2\n3,caf\xe9\n\xe9,unused column\n5,good\n")
        items = read(path)
        assert "3 fields, expected 2" in reason(items[0])
        assert "1 fields, expected 2" in reason(items[1])
        assert reason(items[2]) == "not UTF-8: column 'text'"
        assert [items[3].content, items[4].content] == ["unused column", "good"]

    def test_a_quote_that_is_never_closed_does_not_swallow_the_rest_unseen(self, tmp_path):
        items = read(write(tmp_path / "a.csv", 'id,text\n1,good\n2,"never closed\n3,lost\n'), text="text")
        assert [item.key for item in items] == ["a.csv:2", "a.csv:3"]
        assert "a quote is never closed, and takes in the rest" in reason(items[1])
        assert len(read(write(tmp_path / "b.csv", 'id,text\n1,"closed at\nthe end"'), text="text")) == 1

    @pytest.mark.parametrize(("name", "mark"), [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t"), ("a.csv", "|")])
    def test_delimiters(self, tmp_path, name, mark):
        path = write(tmp_path / name, f"\ufeffid{mark}text\nk{mark}a, b\n")
        assert [(i.key, i.content) for i in read(path, key="id")] == [("k", "a, b")]

    def test_long_fields(self, tmp_path):
        long = "x" * 1_000_000
        assert read(write(tmp_path / "a.csv", f"text\n{long}\n"))[0].content == long

    def test_an_empty_file_and_a_repeated_column_are_refused(self, tmp_path):
        with pytest.raises(SourceError, match="header row"):
            read(write(tmp_path / "a.csv", ""))
        with pytest.raises(SourceError, match="more than one column 'text'"):
            read(write(tmp_path / "b.csv", "text,text\na,b\n"), text="text")

    def test_image_paths_are_relative_to_the_file(self, tmp_path):
        items = read(write(tmp_path / "a.csv", "file,label\nx/1.jpg,cat\n,dog\n"), "image")
        assert items[0].content == FileRef(str(tmp_path / "x/1.jpg"))
        assert reason(items[1]).startswith("column 'file' is empty")


class TestParquet:
    def test_row_groups_before_the_start_are_not_read(self, tmp_path):
        table = pa.table({"text": [f"t{i}" for i in range(10)], "label": range(10), "id": range(100, 110)})
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
        source = open_source(tmp_path / "a.parquet", modality="text", columns=Columns(key="id"))
        assert source.count == 10
        items = list(source.items())
        assert [(i.key, i.content, i.metadata["label"]) for i in items[:2]] == [("100", "t0", 0), ("101", "t1", 1)]
        for start in range(12):
            assert list(source.items(start)) == items[start:]
        damaged = bytearray((tmp_path / "a.parquet").read_bytes())
        damaged[4:40] = bytes(36)  # inside the first row group
        source = open_source(write(tmp_path / "b.parquet", bytes(damaged)), modality="text")
        assert [item.content for item in source.items(6)] == ["t6", "t7", "t8", "t9"]

    @pytest.mark.parametrize(
        "kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
    )
    def test_text_types_and_nulls(self, tmp_path, kind):
        column = pa.array(["a", None, "ü"]).cast(pa.string())
        column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
        pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
        items = read(tmp_path / "a.parquet")
        assert [items[0].content, items[2].content] == ["a", "ü"]
        assert reason(items[1]) == "column 'text' is null, expected a string"
        assert items[2].key == "a.parquet:3"

    def test_a_string_that_is_not_utf8_fails_alone(self, tmp_path):
        raw = pa.array([b"good", b"b\xe9d"])
        column = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
        pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
        items = read(tmp_path / "a.parquet")
        assert items[0].content == "good"
        assert "not UTF-8" in reason(items[1])

    def test_images_as_bytes_paths_and_structs(self, tmp_path):
        images = [{"bytes": b"raw", "path": "ignored.jpg"}, {"bytes": None, "path": "x.jpg"}, None]
        columns = {"bytes": [b"raw", b"raw2", None], "path": ["raw.jpg", "../x.jpg", None], "struct": images}
        for name, values in columns.items():
            pq.write_table(pa.table({"image": values}), tmp_path / f"{name}.parquet")
        found = {name: read(tmp_path / f"{name}.parquet", "image") for name in columns}
        assert [item.content for item in found["bytes"][:2]] == [b"raw", b"raw2"]
        assert found["path"][1].content == FileRef(str(tmp_path / "../x.jpg"))
        assert [item.content for item in found["struct"][:2]] == [b"raw", FileRef(str(tmp_path / "x.jpg"))]
        assert all("is null" in reason(items[2]) for items in found.values())

    def test_a_column_of_numbers_and_a_damaged_file_are_refused(self, tmp_path):
        pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
        with pytest.raises(SourceError, match="has type int64, expected string"):
            read(tmp_path / "a.parquet")
        with pytest.raises(SourceError, match="not a readable parquet file"):
            read(write(tmp_path / "b.parquet", "no parquet"))

    def test_over_fsspec(self):
        with fsspec.open("memory://tables/a.parquet", "wb") as file:
            pq.write_table(pa.table({"image": ["1.jpg"]}), file)
        (item,) = read("memory://tables/a.parquet", "image")
        assert item.content == FileRef("memory://tables/1.jpg")
