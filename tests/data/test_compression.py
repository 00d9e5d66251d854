"""Compressed text files: the same items as the plain file, clear errors, bounded memory."""

import bz2
import gzip
import json
import lzma
import re
import tracemalloc

import pyarrow as pa
import pytest
from source_files import read, reason, remote, until_error, write

from coldpress.data import lines
from coldpress.errors import SourceError

COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}
PLAIN = {
    "a.txt": "\ufeffone\r\n\nthree ü\nlast",
    "a.jsonl": '\ufeff{"text": "a", "label": 1}\n\n{"text": "b"}\n',
    "a.csv": '\ufefftext,label\n"two\nlines",1\nb,2\n',
    "a.tsv": "text\tlabel\na, b\t1\n",
}


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", PLAIN)
def test_a_compressed_file_gives_what_the_plain_one_gives(tmp_path, name, suffix):
    plain = [(i.content, i.metadata) for i in read(write(tmp_path / name, PLAIN[name]))]
    compressed = COMPRESS[suffix](PLAIN[name].encode())
    for location in (write(tmp_path / (name + suffix), compressed), remote(f"/z/{name}{suffix}", compressed)):
        items = read(location)
        assert [(i.content, i.metadata) for i in items] == plain
        assert items[0].key.startswith(f"{name}{suffix}:")
        assert read(location, start=1) == items[1:]


def test_patterns_find_compressed_files_by_any_case(tmp_path):
    for name in ("a.jsonl.gz", "b.JSONL.GZ"):
        write(tmp_path / name, gzip.compress(json.dumps({"text": name}).encode()))
    assert [item.content for item in read(f"{tmp_path}/*.[jJ]*.[gG]*")] == ["a.jsonl.gz", "b.JSONL.GZ"]
    assert [item.content for item in read(f"{tmp_path}/*.jsonl.gz")] == ["a.jsonl.gz"]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
def test_files_put_one_behind_the_other_are_read_to_the_end(tmp_path, suffix):
    two = COMPRESS[suffix](b"one\n") + COMPRESS[suffix](b"two\n")
    assert [item.content for item in read(write(tmp_path / f"a.txt{suffix}", two))] == ["one", "two"]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_file_that_is_cut_off_gives_what_there_is_and_then_an_error(tmp_path, suffix):
    content = "".join(f"line {i} {i * 7919 % 10007}\n" for i in range(200_000)).encode()
    packed = COMPRESS[suffix](content)
    items, error = until_error(write(tmp_path / f"a.txt{suffix}", packed[: len(packed) * 9 // 10]), "text")
    assert [item.content for item in items] == content.decode().splitlines()[: len(items)]
    assert len(items) > 50_000
    assert re.search(rf"a\.txt{suffix}: damaged after [\d,]+ bytes of its content: \w+", error)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_what_is_not_compressed_at_all_is_refused(tmp_path, suffix):
    with pytest.raises(SourceError, match=rf"a\.txt{suffix}: cannot be read"):
        read(write(tmp_path / f"a.txt{suffix}", b"plain text, whatever the name says" * 10))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_line_larger_than_memory_fails_alone(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(lines, "LARGEST_LINE", 2**20)
    long = COMPRESS[suffix](b'{"text": "first"}\n' + b"x" * 40 * 2**20 + b'\n{"text": "last"}\n')
    path = write(tmp_path / f"a.jsonl{suffix}", long)
    del long
    tracemalloc.start()
    items = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 14 * 2**20  # of which 8 are the window of xz
    assert [items[0].content, items[2].content] == ["first", "last"]
    assert reason(items[1]) == "too large: a line of more than 1 MiB"
    assert [item.key.rpartition(":")[2] for item in items] == ["1", "2", "3"]


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_long_lines_of_other_formats_fail_alone(tmp_path, monkeypatch, name):
    monkeypatch.setattr(lines, "LARGEST_LINE", 1000)
    edge = "e" * 999
    path = write(tmp_path / name, f"text\n{edge}\n{'x' * 1000}\n{'y' * 5000}\nlast\n")
    items = read(path)[-4:]
    assert [items[0].content, items[3].content] == [edge, "last"]
    assert all("too large" in reason(item) for item in items[1:3])
    assert read(path, start=len(read(path)) - 1)[0].content == "last"
    assert items[-1].key == f"{name}:5"
