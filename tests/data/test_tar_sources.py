"""WebDataset archives: samples, columns, order, and what happens to damaged ones."""

import gzip
import io
import logging
import re
import tarfile
import tracemalloc

import pyarrow as pa
import pytest
from source_files import read, reason, remote, tar, until_error, write

import coldpress
from coldpress.data import Columns, open_source, webdataset
from coldpress.errors import SourceError
from coldpress.types import Failed, FileRef

LAYOUTS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def test_real_shards_give_images_with_labels_in_order(shared):
    folder = shared / "cifar10"
    source = open_source(f"{folder}/cifar10-train-00000{{0..1}}.tar", modality="image")
    items = list(source.items())
    assert len(items) == 2000
    assert (items[0].key, items[0].metadata["label"]) == ("cifar10-train-000000.tar/train_000000", 5)
    with tarfile.open(folder / "cifar10-train-000001.tar") as archive:
        assert items[-1].content == archive.extractfile("train_001999.jpg").read()
    for start in (0, 1, 999, 1000, 1001, 1999, 2000):
        assert list(source.items(start)) == items[start:]


def test_samples_are_those_of_the_webdataset_package(shared):
    wds = pytest.importorskip("webdataset")
    path = shared / "cifar10" / "cifar10-test-000000.tar"
    expected = [
        (s["__key__"], s["jpg"], int(s["cls"]))
        for s in wds.WebDataset(str(path), shardshuffle=False, empty_check=False)
    ]
    found = [(i.key.rpartition("/")[2], i.content, i.metadata["label"]) for i in read(path, "image")]
    assert found == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_of_every_kind(tmp_path, layout):
    long, odd = "d" * 60 + "/" + "n" * 90, "naïve 日本"
    names = ["a/1.jpg", "./b.v2/2.seg.JPG", long + ".jpg", odd + ".png", "../../etc/passwd.jpg", "/abs/3.webp"]
    extra = [(name, b"x") for name in ("README", ".hidden.jpg", "._1.jpg", "a/", "__meta__/info.jpg")]
    path = write(tmp_path / "s.tar", tar([*extra, *((name, name.encode()) for name in names)], layout))
    items = read(path, "image")
    assert [item.content for item in items] == [name.encode() for name in names]
    expected = ["a/1", "b.v2/2", long, odd, "../../etc/passwd", "/abs/3"]
    assert [item.key for item in items] == [f"s.tar/{name}" for name in expected]
    assert items[0].source == f"{path}/a/1"


def test_a_name_that_is_not_utf8_has_a_printable_key(tmp_path):
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        archive.addfile(tarfile.TarInfo(name))
    (item,) = read(write(tmp_path / "s.tar", packed.getvalue()), "image")
    assert item.key == r"s.tar/caf\xe9"


def test_companions_become_columns(tmp_path):
    first = {"1.jpg": b"img", "1.txt": b"a cat", "1.json": {"id": "k1", "width": 4, "tags": ["x"], "caption": "Cat"}}
    second = {"2.json": {"id": 7, "width": None, "caption": "Dog"}, "2.png": b"img2", "2.txt": b"\xef\xbb\xbfa dog"}
    path = write(tmp_path / "s.tar", tar({**first, **second}))
    assert [(i.key, i.content, i.metadata) for i in read(path, "image")] == [
        ("s.tar/1", b"img", {}),
        ("s.tar/2", b"img2", {}),
    ]
    assert [i.content for i in read(path)] == ["a cat", "a dog"]
    assert [i.content for i in read(path, text="caption")] == ["Cat", "Dog"]
    items = read(path, "image", key="id", label="caption", metadata=("width", "txt", "tags"))
    assert [item.key for item in items] == ["k1", "7"]
    assert items[0].metadata == {"caption": "Cat", "width": 4, "txt": "a cat", "tags": '["x"]'}
    assert items[1].metadata == {"caption": "Dog", "width": None, "txt": "a dog", "tags": None}
    assert read(path, "image", metadata="*")[0].metadata == {"id": "k1", "width": 4, "caption": "Cat"}
    for columns, needed in (
        ({}, False),
        ({"metadata": ("txt",)}, False),
        ({"key": "id"}, True),
        ({"label": "width"}, True),
    ):
        assert open_source(path, modality="image", columns=Columns(**columns)).needs_json is needed


def test_class_labels_are_integers_where_they_are_written_so(tmp_path):
    classes = [b"7", b" -3\n", b"cat", b"1.5", b"9" * 30]
    path = write(
        tmp_path / "s.tar", tar([m for i, c in enumerate(classes) for m in ((f"{i}.cls", c), (f"{i}.jpg", b"x"))])
    )
    assert [i.metadata["label"] for i in read(path, "image")] == [7, -3, "cat", "1.5", "9" * 30]
    assert read(path, "image", label="cls")[0].metadata == {"cls": 7}
    assert read(path, "image", metadata="*")[0].metadata == {"label": 7}


def test_a_bad_sample_fails_alone(tmp_path):
    members = [
        ("1.jpg", b"x"),
        ("1.json", b"{oops"),
        ("2.json", b"{}"),
        ("3.jpg", b"a"),
        ("3.png", b"b"),
        ("4.jpg", b"y"),
    ]
    items = read(write(tmp_path / "s.tar", tar([("0.json", b'{"label": 1}'), ("0.jpg", b"w"), *members])), "image")
    assert [item.metadata for item in items[:3]] == [{"label": 1}, {"label": None}, {"label": None}]
    assert [item.content for item in (items[0], items[1], items[4])] == [b"w", b"x", b"y"]
    assert reason(items[2]) == "no image in this sample: it has json"
    assert reason(items[3]).startswith("members jpg, png could be the image; name one with --image-column")


def test_which_member_is_the_image(tmp_path):
    path = write(
        tmp_path / "s.tar", tar({"1.mask.png": b"m", "1.jpg": b"x", "1.thumb.jpg": b"t", "2.mask.png": b"only"})
    )
    assert [item.content for item in read(path, "image")] == [b"x", b"only"]
    assert [item.content for item in read(path, "image", image="mask.png")] == [b"m", b"only"]
    two = write(tmp_path / "t.tar", tar({"1.png": b"m", "1.jpg": b"x"}))
    with pytest.raises(SourceError, match=r"t\.tar: members png, jpg could be the image; name one with --image-column"):
        read(two, "image")
    assert read(two, "image", image="jpg")[0].content == b"x"
    with pytest.raises(SourceError, match=r"no column 'webp'; its columns are 'png', 'jpg' \(--image-column"):
        read(two, "image", image="webp")
    with pytest.raises(SourceError, match="none is known to hold the text"):
        read(two)


def test_an_entry_of_the_json_can_be_the_path_of_the_image(tmp_path):
    path = write(tmp_path / "s.tar", tar({"1.json": {"file": "photos/1.jpg"}, "2.json": {"file": None}}))
    items = read(path, "image", image="file")
    assert items[0].content == FileRef(str(tmp_path / "photos/1.jpg"))
    assert "is null" in reason(items[1])


def test_links_and_large_members_fail_without_being_read(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "LARGEST_IMAGE", 10)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, size in (("1.jpg", 10), ("2.jpg", 11)):
            header = tarfile.TarInfo(name)
            header.size = size
            archive.addfile(header, io.BytesIO(b"x" * size))
        link = tarfile.TarInfo("3.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    items = read(write(tmp_path / "s.tar", packed.getvalue()), "image")
    assert items[0].content == b"x" * 10
    assert reason(items[1]) == "too large: '2.jpg' has 11 bytes, the limit is 10"
    assert "is a link" in reason(items[2])


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz"])
def test_compressed_and_remote_shards(tmp_path, suffix):
    import bz2
    import lzma

    content = tar({f"{i}.{kind}": f"{kind}{i}".encode() for i in range(5) for kind in ("jpg", "cls")})
    compress = {"gz": gzip.compress, "tgz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    kind = suffix.rpartition(".")[2]
    if kind == "zst":
        content = pa.compress(content, "zstd", asbytes=True)
    elif kind in compress:
        content = compress[kind](content)
    for location in (write(tmp_path / f"s{suffix}", content), remote(f"/shards/s{suffix}", content)):
        items = read(location, "image")
        assert [(item.key, item.content) for item in items] == [(f"s{suffix}/{i}", b"jpg%d" % i) for i in range(5)]
        assert read(location, "image", start=3) == items[3:]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", ["local", "remote"])
def test_a_cut_archive_gives_its_whole_samples_and_then_an_error(tmp_path, layout, where):
    name = "d" * 90 + "/" + "n" * 90
    whole = tar({f"{name}{i}.jpg": bytes([i]) * 700 for i in range(40)}, layout)
    counts = set()
    for cut in range(36_001, 52_000, 471):
        location = write(tmp_path / "s.tar", whole[:cut]) if where == "local" else remote("/cut/s.tar", whole[:cut])
        found, error = until_error(location, "image")
        assert re.search(r"s\.tar: damaged at byte [\d,]+ of the archive", error)
        assert [item.content for item in found] == [bytes([i]) * 700 for i in range(len(found))]
        counts.add(len(found))
    assert min(counts) >= 10
    assert len(counts) >= 3


def test_a_damaged_header_is_an_error_and_not_the_end(tmp_path):
    whole = bytearray(tar({f"{i}.jpg": b"x" * 600 for i in range(20)}))
    at = whole.index(b"17.jpg")
    whole[at : at + 3] = b"\xff\xff\xff"
    items, error = until_error(write(tmp_path / "s.tar", bytes(whole)), "image")
    assert len(items) == 16  # the next may have had more members
    assert re.search(r"damaged at byte [\d,]+ of the archive: .*checksum", error)


def test_what_is_no_archive_is_refused_and_an_empty_one_is_not(tmp_path, caplog):
    with pytest.raises(SourceError, match=r"s\.tar: not a tar archive"):
        read(write(tmp_path / "s.tar", b"no archive" * 100), "image")
    with pytest.raises(SourceError, match=r"e\.tar: not a tar archive"):
        read(write(tmp_path / "e.tar", b""), "image")
    with caplog.at_level(logging.WARNING):
        assert read(write(tmp_path / "n.tar", tar({})), "image") == []
    assert "n.tar: has no sample" in caplog.text


def test_an_archive_without_its_end_mark_is_read_with_a_warning(tmp_path, caplog):
    whole = tar({"1.jpg": b"x"})
    with caplog.at_level(logging.WARNING):
        assert len(read(write(tmp_path / "s.tar", whole[:1024]), "image")) == 1
    assert "may have been cut off" in caplog.text


def test_a_key_that_is_too_long_fails_under_a_shorter_one(tmp_path):
    path = write(tmp_path / "s.tar", tar({"n" * 5000 + ".jpg": b"x", "1.jpg": b"y"}))
    items = read(path, "image")
    assert (items[0].key, items[0].source) == ("s.tar:1", f"{path}:1")
    assert "5,006 characters, expected at most 4,096" in reason(items[0])
    assert items[1].content == b"y"


def test_memory_does_not_grow_with_the_archive(tmp_path):
    def peak(count: int) -> int:
        path = write(tmp_path / f"{count}.tar", tar([(f"{i}.jpg", b"x" * 5000) for i in range(count)]))
        tracemalloc.start()
        assert sum(1 for _ in open_source(path, modality="image").items()) == count
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(10)
    assert peak(2000) < peak(200) + 50_000


def test_text_that_is_not_utf8_and_repeated_members_fail(tmp_path):
    path = write(
        tmp_path / "s.tar", tar([("1.txt", b"b\xe9d"), ("2.txt", b"a"), ("2.txt", b"b"), ("3.txt", "ü".encode())])
    )
    items = read(path)
    assert [isinstance(item.content, Failed) for item in items] == [True, True, False]
    assert "more than one member 'txt'" in reason(items[1])


def test_a_run_over_a_broken_shard_goes_on_once_the_shard_is_repaired(tmp_path, minilm):
    extractor = coldpress.Extractor(minilm)
    samples = [(f"{i:04d}.{kind}", f"{kind} {i}".encode()) for i in range(600) for kind in ("txt", "cls")]
    first, second = tar(samples[:600]), tar(samples[600:])
    folder = tmp_path / "shards"
    folder.mkdir()
    write(folder / "0.tar", first)
    write(folder / "1.tar", second)
    options = {"shard_rows": 128, "columns": coldpress.Columns(metadata=("txt",))}
    whole = extractor.run(tmp_path / "whole", f"{folder}/{{0..1}}.tar", **options)
    assert (whole.rows, whole.resumed) == (600, 0)

    write(folder / "1.tar", second[: len(second) * 3 // 4 + 100])
    with pytest.raises(SourceError, match=r"1\.tar: damaged at byte"):
        extractor.run(tmp_path / "repaired", f"{folder}/{{0..1}}.tar", **options)
    write(folder / "1.tar", second)
    summary = extractor.run(tmp_path / "repaired", f"{folder}/{{0..1}}.tar", **options)
    assert summary.rows == 600
    assert 0 < summary.resumed <= 512  # what was committed when the shard broke is not read again
    for path in (tmp_path / "whole").rglob("part-*"):
        assert path.read_bytes() == (tmp_path / "repaired" / path.relative_to(tmp_path / "whole")).read_bytes()
    store = coldpress.EmbeddingStore(tmp_path / "repaired")
    assert store.metadata.slice(599, 1).to_pylist()[0]["txt"] == "txt 599"
    assert store.metadata.slice(599, 1).to_pylist()[0]["key"] == "1.tar/0599"
