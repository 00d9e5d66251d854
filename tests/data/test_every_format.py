"""What holds for every format: order, resumption, keys, metadata, URLs."""

import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc
from source_files import read, reason, remote, tar

from coldpress.data import Columns, formats, open_source
from coldpress.data.rows import STORE_COLUMNS
from coldpress.errors import SourceError
from coldpress.store.schema import RESERVED
from coldpress.types import FileRef


def as_csv(rows):
    quoted = ([str(row[name]).replace('"', '""') for name in ("text", "label", "id")] for row in rows)
    return "text,label,id\n" + "".join('"{}","{}","{}"\n'.format(*fields) for fields in quoted)


def as_arrow(rows):
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows)
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return sink.getvalue().to_pybytes()


def as_parquet(rows):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=4)
    return sink.getvalue().to_pybytes()


def as_tar(rows):
    members = []
    for i, row in enumerate(rows):
        members += [(f"{i}.txt", row["text"].encode()), (f"{i}.json", json.dumps(row).encode())]
    return tar(members)


WRITERS = {
    "a.txt": lambda rows: "".join(row["text"] + "\n" for row in rows),
    "a.jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
    "a.csv": as_csv,
    "a.parquet": as_parquet,
    "a.arrow": as_arrow,
    "a.tar": as_tar,
    "a.jsonl.gz": lambda rows: gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()),
    "a.csv.zst": lambda rows: pa.compress(as_csv(rows).encode(), "zstd", asbytes=True),
    "a.tar.gz": lambda rows: gzip.compress(as_tar(rows)),
}
WITH_COLUMNS = sorted(name for name in WRITERS if "txt" not in name and "csv" not in name)
ROWS = [{"text": f"text {i}", "label": i % 2, "id": f"k{i}"} for i in range(5)]


def content_of(name, rows=ROWS) -> bytes:
    content = WRITERS[name](rows)
    return content.encode() if isinstance(content, str) else content


def test_every_format_is_here():
    tested = {found.name for found in formats() for name in WRITERS for suffix in found.suffixes if suffix in name}
    assert {found.name for found in formats() if found.suffixes} == tested


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_start_gives_the_same_items_and_a_second_reading_too(name, data):
    texts = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=20)
    row = st.fixed_dictionaries({"text": texts, "label": st.integers(0, 9), "id": st.text("abc", max_size=3)})
    parts = data.draw(st.lists(st.lists(row, min_size=1, max_size=12), min_size=1, max_size=3))
    start = data.draw(st.integers(0, 40))
    columns = Columns() if name == "a.txt" else Columns(text="txt" if "tar" in name else "text", key="id", metadata="*")
    with TemporaryDirectory() as folder:
        for i, rows in enumerate(parts):
            (Path(folder) / f"{i}{name}").write_bytes(content_of(name, rows))
        source = open_source(f"{folder}/*", modality="text", columns=columns)
        items = list(source.items())
        assert len(items) == sum(map(len, parts))
        assert list(source.items(start)) == items[start:]
        assert source.count in (None, len(items))
        texts_in = [row["text"] for rows in parts for row in rows]
        good = [(i.content, text) for i, text in zip(items, texts_in, strict=True) if isinstance(i.content, str)]
        assert [found for found, _ in good] == [expected for _, expected in good]


@pytest.mark.parametrize("name", WRITERS)
def test_over_fsspec_by_name_and_by_pattern(name):
    url = remote(f"/everything/{name}/{name}", content_of(name))
    expected = [f"text {i}" for i in range(5)]
    for spec in (url, f"memory://everything/{name}/*", f"memory://everything/{name}/{{{name},{name}}}"):
        assert [item.content for item in read(spec)] == expected


@pytest.mark.parametrize("name", WITH_COLUMNS)
def test_columns_become_metadata(tmp_path, name):
    rows = [row | {"lang": "en", "source": "web"} for row in ROWS]
    (tmp_path / name).write_bytes(content_of(name, rows))
    path = tmp_path / name
    assert [item.metadata for item in read(path)] == [{"label": i % 2} for i in range(5)]
    assert list(read(path, metadata=("lang", "label"))[1].metadata.items()) == [("label", 1), ("lang", "en")]
    everything = dict(read(path, key="id", metadata="*")[1].metadata)
    everything.pop("text", None)  # in the json of a tar it is a column like any other
    assert everything == {"label": 1, "lang": "en"}
    with pytest.raises(SourceError, match=r"no column 'nope'.*\(--metadata-column, Columns\(metadata=\.\.\.\)\)"):
        read(path, metadata=("nope",))


def test_csv_columns_become_metadata(tmp_path):
    (tmp_path / "a.csv").write_text(as_csv(ROWS))
    assert read(tmp_path / "a.csv", metadata="*")[1].metadata == {"label": "1", "id": "k1"}


def test_the_names_left_out_are_those_of_the_store():
    assert STORE_COLUMNS == RESERVED


KEYS = ["x", "x", "tab\tand\nline", "nul\x00", "ключ 日本", " ", "k" * 4096, "k" * 4097, "", None, 1.5, True, -3]


@pytest.mark.parametrize("name", ["a.jsonl", "a.tar"])
def test_keys_of_every_kind(tmp_path, name):
    (tmp_path / name).write_bytes(content_of(name, [{"text": "t", "id": key} for key in KEYS]))
    items = read(tmp_path / name, key="id")
    assert [item.key for item in items[:7]] == KEYS[:7]
    assert items[-1].key == "-3"
    own = [f"{name}:{n}" for n in range(1, 14)] if name == "a.jsonl" else [f"{name}/{n}" for n in range(13)]
    assert reason(items[7]) == "the key has 4,097 characters, expected at most 4,096"
    assert items[7].key == f"{name}:8"
    for position, words in ((8, "is empty"), (9, "is null"), (10, "is float"), (11, "is bool")):
        assert reason(items[position]).startswith(f"no key: column 'id' {words}")
        assert items[position].key == own[position]


def test_a_file_system_is_connected_to_once():
    class Counting(MemoryFileSystem):
        protocol = "counting"
        connections = 0

        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            type(self).connections += 1

        @classmethod
        def _strip_protocol(cls, path):
            return "/" + path.rpartition("://")[2].lstrip("/")

    fsspec.register_implementation("counting", Counting, clobber=True)
    Counting().pipe("/a.jpg", b"x")
    before = Counting.connections
    assert all(FileRef("counting://a.jpg").read() == b"x" for _ in range(20))
    assert Counting.connections - before <= 1
