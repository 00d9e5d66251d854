"""The items behind vectors are found where they were read, in other data, or not at all."""

from __future__ import annotations

import shutil
import tarfile

import numpy as np
import pytest

from coldpress import Extractor
from coldpress.assess.originals import find_originals
from coldpress.errors import ColdpressError
from coldpress.types import FileRef

SMALL = "mobilenet_v1_0.25_128_imagenet"


@pytest.fixture(scope="module")
def photos(shared, tmp_path_factory):
    """A folder of six photos."""
    folder = tmp_path_factory.mktemp("photos") / "insects"
    folder.mkdir()
    for path in sorted((shared / "hymenoptera").rglob("*.jpg"))[:6]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def small(shared):
    return Extractor(shared / "models" / SMALL, device="cpu", precision="fp32")


def test_photos_of_a_folder_are_files(photos, small, tmp_path):
    store = small.embed_to(tmp_path / "store", photos)
    found = find_originals(store, np.array([4, 1]))
    assert [one.url for one in found if isinstance(one, FileRef)] == [str(photos / store.keys[row]) for row in (4, 1)]


def test_photos_of_a_tar_are_read_from_it(photos, small, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for path in sorted(photos.iterdir()):
            archive.add(path, path.name)
    store = small.embed_to(tmp_path / "store", tmp_path / "photos.tar")
    (content,) = find_originals(store, np.array([3]))
    assert content == sorted(photos.iterdir())[3].read_bytes()


def test_what_has_moved_is_found_in_data_by_key(photos, small, tmp_path):
    here = shutil.copytree(photos, tmp_path / "here")
    store = small.embed_to(tmp_path / "store", here)
    there = here.rename(tmp_path / "there")
    with pytest.raises(ColdpressError, match="6 of 6 items are not where they were, or have changed"):
        find_originals(store, np.arange(6))
    assert len(find_originals(store, np.arange(6), str(there))) == 6


def test_a_file_with_another_content_is_not_the_item(photos, small, tmp_path):
    here = shutil.copytree(photos, tmp_path / "here")
    store = small.embed_to(tmp_path / "store", here)
    first, second = (here / store.keys[row] for row in (0, 1))
    shutil.copy(second, first)
    with pytest.raises(ColdpressError, match="1 of 6 items"):
        find_originals(store, np.arange(6))


def test_lines_of_texts_are_found_by_number(minilm, tmp_path):
    (tmp_path / "notes.txt").write_text("one\ntwo\nthree\ntwo\n")
    store = Extractor(minilm, device="cpu", precision="fp32").embed_to(tmp_path / "store", tmp_path / "notes.txt")
    assert find_originals(store, np.array([0, 3, 1])) == ["one", "two", "two"]
