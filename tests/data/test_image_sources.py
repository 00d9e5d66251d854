"""Directories of images, image files and patterns: order, keys, labels, and what is left out."""

import logging
import os
from pathlib import Path

import fsspec
import pytest

from coldpress.data import open_source
from coldpress.errors import SourceError
from coldpress.types import FileRef


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def keys(*specs, **options) -> list[str]:
    return [item.key for item in open_source(list(specs), modality="image", **options).items()]


def test_a_folder_gives_relative_keys_in_path_order_and_labels(tmp_path):
    root = make(
        tmp_path / "photos", "dog/2.JPG", "cat/10.jpg", "cat/9.png", "cat-big/1.webp", "top.gif", "cat/notes.txt"
    )
    source = open_source(root, modality="image")
    items = list(source.items())
    assert [item.key for item in items] == ["cat-big/1.webp", "cat/10.jpg", "cat/9.png", "dog/2.JPG", "top.gif"]
    assert [item.metadata for item in items] == [{"label": name} for name in ("cat-big", "cat", "cat", "dog", None)]
    assert items[1].content == FileRef(str(root / "cat/10.jpg"))
    assert items[1].content.read() == b"cat/10.jpg"
    assert items[1].source == str(root / "cat/10.jpg")
    assert source.count == 5
    assert [item.key for item in source.items(start=3)] == ["dog/2.JPG", "top.gif"]
    assert list(source.items(start=9)) == []


def test_a_flat_folder_has_no_labels(tmp_path):
    make(tmp_path, "a.jpg")
    assert [item.metadata for item in open_source(tmp_path, modality="image").items()] == [{}]


def test_hidden_files_are_skipped_and_broken_links_are_not(tmp_path):
    make(tmp_path, "a.jpg", ".hidden.jpg", ".cache/b.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert keys(tmp_path) == ["a.jpg", "gone.jpg"]


def test_links_are_followed_but_not_in_circles(tmp_path, caplog):
    make(tmp_path, "real/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "real/loop").symlink_to(tmp_path)
    (tmp_path / "real/other").symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING):
        assert keys(tmp_path) == ["elsewhere/b.jpg", "real/a.jpg", "real/other/b.jpg"]
    assert "real/loop" in caplog.text


def test_a_fifo_with_an_image_name_does_not_hang_the_run(tmp_path):
    make(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert keys(tmp_path) == ["a.jpg"]


def test_a_file_name_that_is_not_utf8_has_a_printable_key_and_opens(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / name).write_bytes(b"coffee")
    (item,) = open_source(tmp_path, modality="image").items()
    assert item.key == r"caf\xe9.jpg"
    assert item.content.read() == b"coffee"


def test_a_folder_without_images_says_what_was_looked_for(tmp_path):
    make(tmp_path, "notes.md")
    with pytest.raises(SourceError, match=r"no image found.*\.jpg.*\.png"):
        open_source(tmp_path, modality="image")
    make(tmp_path, "a/shard-0.tar.gz")
    with pytest.raises(
        SourceError, match=r"it holds a/shard-0\.tar\.gz: to read such files name '.*/\*\*/\*\.tar\.gz'"
    ):
        open_source(tmp_path, modality="image")


def test_named_files_are_taken_whatever_their_suffix_with_the_path_as_key(tmp_path, monkeypatch):
    monkeypatch.chdir(make(tmp_path, "a/1.jpg", "b/1.jpg", "b/raw"))
    source = open_source(["a/1.jpg", "./b/1.jpg", "b/raw"], modality="image")
    assert [item.key for item in source.items()] == ["a/1.jpg", "b/1.jpg", "b/raw"]
    assert source.count == 3


def test_several_folders_put_their_names_in_front(tmp_path):
    make(tmp_path, "x/train/a.jpg", "x/val/a.jpg", "y/train/a.jpg")
    x, y = tmp_path / "x", tmp_path / "y"
    assert keys(x / "train", x / "val") == ["train/a.jpg", "val/a.jpg"]
    assert keys(x / "train", y / "train") == [f"{x}/train/a.jpg", f"{y}/train/a.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["1.jpg"]),
        ("*", ["1.jpg"]),
        ("**/*.jpg", ["1.jpg", "cat/2.jpg", "cat/deep/3.jpg"]),
        ("**", ["1.jpg", "cat/2.jpg", "cat/deep/3.jpg", "dog/4.png"]),
        ("*/[!3].jpg", ["cat/2.jpg"]),
        ("{cat,dog}/*", ["cat/2.jpg", "dog/4.png"]),
        ("{dog,cat}", ["dog/4.png", "cat/2.jpg", "cat/deep/3.jpg"]),
        ("*.heic", ["5.heic"]),
        ("{1..1}.jpg", ["1.jpg"]),
    ],
)
def test_patterns(tmp_path, pattern, expected):
    make(tmp_path, "1.jpg", "cat/2.jpg", "cat/deep/3.jpg", "dog/4.png", "5.heic", "notes.md")
    assert keys(f"{tmp_path}/{pattern}") == expected


def test_a_pattern_without_a_match_and_a_missing_brace_member_are_errors(tmp_path):
    make(tmp_path, "1.jpg")
    with pytest.raises(SourceError, match="no image found"):
        keys(f"{tmp_path}/*.png")
    with pytest.raises(SourceError, match=r"2\.jpg: no such file"):
        keys(f"{tmp_path}/{{1..2}}.jpg")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(make(tmp_path, "photo[1].jpg", "photo1.jpg"))
    assert keys("photo[1].jpg") == ["photo[1].jpg"]


def test_naming_something_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(make(tmp_path, "photos/a.jpg"))
    with pytest.raises(SourceError, match="named 2 times"):
        keys("photos/a.jpg", "photos/a.jpg")
    with pytest.raises(SourceError, match="named by itself and"):
        keys("photos/a.jpg", "photos")


def test_fsspec_folders_and_patterns(tmp_path):
    memory = fsspec.filesystem("memory")
    for name in ("cat/1.jpg", "dog/2.png", "dog/.x.jpg", "readme.md"):
        memory.pipe(f"/pictures/{name}", name.encode())
    source = open_source("memory://pictures", modality="image")
    items = list(source.items())
    assert [(item.key, item.metadata["label"]) for item in items] == [("cat/1.jpg", "cat"), ("dog/2.png", "dog")]
    assert items[1].content.read() == b"dog/2.png"
    assert keys("memory://pictures/*/*.png") == ["dog/2.png"]
    assert keys("memory://pictures/cat/1.jpg") == ["memory://pictures/cat/1.jpg"]
    make(tmp_path, "a.jpg")
    assert keys(f"file://{tmp_path}") == ["a.jpg"]


def test_an_unknown_protocol_is_named():
    with pytest.raises(SourceError, match="nosuch"):
        open_source("nosuch://bucket/x", modality="image")


def test_an_unreadable_folder_is_an_error_that_names_it(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    make(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(SourceError, match=r"closed: cannot be listed: Permission denied"):
            keys(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_limit_and_repeatability(tmp_path):
    make(tmp_path, *(f"{i}.jpg" for i in range(9)))
    source = open_source(tmp_path, modality="image", limit=4)
    assert source.count == 4
    assert list(source.items()) == list(source.items())
    assert [item.key for item in source.items(start=3)] == ["3.jpg"]
    assert list(source.items(start=5)) == []
    with pytest.raises(SourceError, match="expected at least 1"):
        open_source(tmp_path, modality="image", limit=0)
