"""`open_source` as a whole: several specs, Python objects, the registry, and the pattern language by itself."""

import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import coldpress.data
from coldpress.data import Columns, MemorySource, formats, open_source
from coldpress.data import source as source_module
from coldpress.data.pattern import compile_glob, expand_braces, split_root
from coldpress.errors import SourceError
from coldpress.types import Failed, FileRef, Item


def lines(path: Path, count: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{path.stem}{i}\n" for i in range(count)))
    return path


def keys(spec, **options) -> list[str]:
    return [item.key for item in open_source(spec, modality="text", **options).items()]


def test_several_files_are_read_one_after_the_other_from_any_start(tmp_path):
    source = open_source(
        [lines(tmp_path / f"{name}.txt", n) for name, n in (("a", 3), ("b", 1), ("c", 2))], modality="text"
    )
    items = list(source.items())
    assert [item.content for item in items] == ["a0", "a1", "a2", "b0", "c0", "c1"]
    assert source.count is None
    for start in range(8):
        assert list(source.items(start)) == items[start:]


def test_files_before_the_start_are_counted_and_not_made_into_items(tmp_path):
    bad = "[" * 1000  # would fail as an item
    paths = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for path in paths:
        path.write_text('{"text": "x"}\n\n' + f"{bad}\n" * 3)
    source = open_source(paths, modality="text")
    items = list(source.items())
    assert [len(list(source.items(start))) for start in range(14)] == [max(12 - start, 0) for start in range(14)]
    assert list(source.items(9)) == items[9:]
    assert source.sources[0].measure() == 4


def test_equal_file_names_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "x/a.txt", 1)
    lines(tmp_path / "y/a.txt", 1)
    assert keys(["x/a.txt", "y/a.txt"]) == ["x/a.txt:1", "y/a.txt:1"]
    assert keys("*/a.txt") == ["x/a.txt:1", "y/a.txt:1"]
    assert keys("{y,x}/a.txt") == ["y/a.txt:1", "x/a.txt:1"]


def test_what_cannot_be_text_is_refused_with_what_can(tmp_path):
    with pytest.raises(SourceError, match=r"is a directory, expected files of texts \(\.arrow, \.csv"):
        open_source(tmp_path, modality="text")
    (tmp_path / "a.jpg").touch()
    with pytest.raises(SourceError, match="not a known text format"):
        open_source(tmp_path / "a.jpg", modality="text")
    with pytest.raises(SourceError, match="no file matches"):
        open_source(f"{tmp_path}/*.txt", modality="text")
    with pytest.raises(SourceError, match="MemorySource"):
        open_source(["A sentence that was meant to be embedded itself. " * 100], modality="text")
    with pytest.raises(SourceError, match=r"no such file or directory$"):
        open_source("nowhere.txt", modality="text")
    with pytest.raises(SourceError, match="no source given"):
        open_source([], modality="text")


def test_metadata_columns_are_a_tuple():
    with pytest.raises(SourceError, match=r"metadata is 'lang', expected a tuple of column names, or '\*'"):
        Columns(metadata="lang")


def test_python_objects_are_sources_too():
    assert keys(iter(["a", "b"])) == ["0", "1"]
    assert keys({"k": "text"}) == ["k"]
    assert keys([("k", "text"), Item("own", "text")]) == ["k", "own"]
    assert keys(np.array(["a", "b"])) == ["0", "1"]
    source = MemorySource(["a", "b", "c"], "text")
    assert open_source(source, modality="text") is source
    assert source.count == 3
    assert [item.key for item in source.items(2)] == ["2"]


def test_pandas_columns_are_contents():
    pandas = pytest.importorskip("pandas")
    items = list(open_source(pandas.Series(["a", "b"], index=[7, 8]), modality="text").items())
    assert [(item.key, item.content) for item in items] == [("0", "a"), ("1", "b")]


def test_image_contents_and_wrong_ones():
    pixels = np.zeros((4, 5, 3), np.uint8)
    picture = PIL.Image.new("RGB", (2, 2))
    contents = [b"raw", "a.jpg", Path("b.jpg"), picture, pixels, pixels[..., 0], pixels.astype(float), 3]
    found = [item.content for item in MemorySource(contents, "image").items()]
    assert found[:4] == [b"raw", FileRef("a.jpg"), FileRef("b.jpg"), picture]
    assert found[4] is pixels
    assert [type(content) for content in found[5:]] == [Failed] * 3
    assert "got an array (4, 5) uint8, expected (height, width, 3) uint8" in found[5].reason
    assert next(iter(MemorySource([None], "text").items())).content == Failed("got NoneType, expected a string")


class Photos(torch.utils.data.Dataset):
    """As most PyTorch data sets are: items by number, no IndexError at the end, and a file that is broken."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 5

    def __getitem__(self, number):
        self.asked.append(number)
        if number == 2:
            raise OSError("broken file")
        return PIL.Image.new("RGB", (2, 2), (number, 0, 0)), [0, torch.tensor(1), None, np.int64(3), "four"][number]


def test_a_torch_dataset_gives_images_with_labels():
    source = open_source(Photos(), modality="image")
    items = list(source.items())
    assert [item.key for item in items] == ["0", "1", "2", "3", "4"]
    assert [item.metadata.get("label") for item in items] == [0, 1, None, 3, "four"]
    assert type(items[1].metadata["label"]) is int
    assert items[3].content.getpixel((0, 0)) == (3, 0, 0)
    assert items[2].content == Failed("OSError: broken file")
    assert source.count == 5


def test_a_torch_dataset_is_not_asked_for_what_is_skipped():
    photos = Photos()
    assert len(list(open_source(photos, modality="image").items(3))) == 2
    assert photos.asked == [3, 4]
    part = torch.utils.data.Subset(photos, [4, 0])
    assert [item.metadata["label"] for item in open_source(part, modality="image").items()] == ["four", 0]


def test_pairs_are_key_and_content_or_content_and_label():
    pixels = np.zeros((2, 2, 3), np.uint8)
    pairs = [("k", b"raw"), ("a.jpg", 1), (b"raw", "cat"), (pixels, None), ("k2", "b.jpg"), (pixels, 0.5), (b"a", [1])]
    items = list(MemorySource(pairs, "image").items())
    assert [item.key for item in items] == ["k", "1", "2", "3", "k2", "5", "6"]
    assert [item.metadata.get("label", "none") for item in items] == ["none", 1, "cat", None, "none", 0.5, "none"]
    assert items[1].content == FileRef("a.jpg")
    assert "got tuple" in items[6].content.reason
    texts = list(MemorySource([("a text", 1), ("key", "a text")], "text").items())
    assert [(i.key, i.content, i.metadata) for i in texts] == [("0", "a text", {"label": 1}), ("key", "a text", {})]


def test_keys_of_a_mapping_are_keys_whatever_the_content_is():
    items = list(MemorySource({"a": "a text", "b": float("nan"), "c": 3, 4: "another"}, "text").items())
    assert [item.key for item in items] == ["a", "b", "c", "4"]
    wrong = [Failed(f"got {kind}, expected a string") for kind in ("float", "int")]
    assert [item.content for item in items] == ["a text", *wrong, "another"]
    assert not any(item.metadata for item in items)


def test_an_iterator_is_read_once_and_a_single_text_is_no_list():
    source = MemorySource(iter(["a"]), "text")
    assert len(list(source.items())) == 1
    with pytest.raises(SourceError, match="read already"):
        source.items()
    with pytest.raises(SourceError, match="got a single str"):
        MemorySource("text", "text")


def test_a_format_is_one_module_with_FORMAT(tmp_path, monkeypatch):  # noqa: N802
    (tmp_path / "shout.py").write_text(
        "from coldpress.data import Format, MemorySource\n"
        "FORMAT = Format('shout', ('.shout.txt',), lambda file: MemorySource([file.name.upper()], 'text'))\n"
    )
    monkeypatch.setattr(coldpress.data, "__path__", [*coldpress.data.__path__, str(tmp_path)])
    formats.cache_clear()
    try:
        (tmp_path / "a.shout.txt").touch()
        (item,) = open_source(tmp_path / "a.shout.txt", modality="text").items()
        assert item.content == "A.SHOUT.TXT"
    finally:
        sys.modules.pop("coldpress.data.shout", None)
        formats.cache_clear()
    assert {"Arrow", "CSV", "JSON lines", "WebDataset tar", "parquet", "text lines"} <= {
        found.name for found in source_module.formats()
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("plain", ["plain"]),
        ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
        ("{08..10}", ["08", "09", "10"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b{c,d}}", ["a", "bc", "bd"]),
        ("{single}", ["{single}"]),
    ],
)
def test_braces(pattern, expected):
    assert expand_braces(pattern) == expected


def test_the_fixed_part_of_a_pattern():
    assert split_root("a/b/*.txt") == ("a/b", "*.txt")
    assert split_root("*.txt") == (".", "*.txt")
    assert split_root("/*.txt") == ("/", "*.txt")
    assert split_root("s3://bucket/x/{a,b}/*") == ("s3://bucket/x", "{a,b}/*")
    assert split_root("memory://*.txt") == ("memory://", "*.txt")


@given(st.text("ab.[]^-\\+()", min_size=1, max_size=12))
def test_a_name_without_wildcards_matches_itself_only(name):
    literal = name.replace("[", "[[]")
    assert compile_glob(literal).fullmatch(name)
    assert not compile_glob(literal).fullmatch(name + "x")
