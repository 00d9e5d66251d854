"""Runs from S3 into S3 over a link that fails: the store of an undisturbed local run, or one clear error."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulty_link import FaultyLink

from coldpress import Progress, _urls
from coldpress.errors import SourceError, StoreError
from coldpress.store import EmbeddingStore
from coldpress.types import FileRef

s3fs = pytest.importorskip("s3fs")

Paint = Callable[[Path, int], Path]
FAULTS = {"500": 0.06, "503": 0.06, "lost": 0.06, "timeout": 0.01}


@pytest.fixture
def link(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyLink]:
    """The way to S3, without faults as yet; the client gives up after two silent seconds, and leaves trying to us."""
    link = FaultyLink(s3_server)
    for name, value in {
        "AWS_ENDPOINT_URL": link.url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    client = {"read_timeout": 2, "connect_timeout": 5, "retries": {"total_max_attempts": 1}}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": client})
    s3fs.S3FileSystem.clear_instance_cache()
    yield link
    link.faults = {}
    s3fs.S3FileSystem.clear_instance_cache()
    link.close()


@pytest.fixture
def bucket(link: FaultyLink, request: pytest.FixtureRequest) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name)[:60].strip("-")
    patient().mkdir(name)
    return f"s3://{name}"


def patient() -> s3fs.S3FileSystem:
    """A client of the tests' own, for what is not to fail."""
    return s3fs.S3FileSystem(config_kwargs={"read_timeout": 60}, use_listings_cache=False)


def upload(folder: Path, url: str) -> None:
    patient().put(f"{folder}/", url, recursive=True)


def objects(url: str) -> dict[str, bytes]:
    base, filesystem = url.removeprefix("s3://"), patient()
    return {path.removeprefix(f"{base}/"): filesystem.cat_file(path) for path in filesystem.find(base)}


def assert_equal(url: str, local: Path) -> None:
    """All but where the items lay, which metadata and manifest name."""
    ours, theirs = EmbeddingStore(url), EmbeddingStore(local)
    ours.verify()
    assert ours.outcomes.equals(theirs.outcomes)
    assert ours.metadata.drop_columns(["source"]).equals(theirs.metadata.drop_columns(["source"]))
    assert [shard.rows for shard in ours.manifest.shards] == [shard.rows for shard in theirs.manifest.shards]
    assert (np.asarray(ours.embeddings) == np.asarray(theirs.embeddings)).all()
    assert ours.certificate == theirs.certificate
    assert {name for name in objects(url) if "." in name} == {
        str(path.relative_to(local)) for path in local.rglob("*.*") if path.name != ".lock"
    }


def test_photos_over_a_link_with_faults(photo_extractor, tmp_path, paint, link, bucket):
    for i in range(60):
        paint(tmp_path / "photos" / f"{i:03d}.jpg", i % 50)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    upload(tmp_path / "photos", f"{bucket}/photos")
    photo_extractor.run(tmp_path / "store", tmp_path / "photos", shard_rows=20)
    link.faults = FAULTS
    summary = photo_extractor.run(f"{bucket}/store", f"{bucket}/photos", shard_rows=20)
    link.faults = {}
    assert (summary.inputs, summary.failed, summary.duplicates) == (61, 1, 10)
    assert min(link.met[fault] for fault in FAULTS) > 0, link.met
    assert_equal(f"{bucket}/store", tmp_path / "store")


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_large_files_are_streamed_over_a_slow_link_with_faults(photo_extractor, tmp_path, paint, link, bucket, kind):
    """The file is many times as large as a range; it is read from front to back while it is computed."""
    files = [paint(tmp_path / "photos" / f"{i:03d}.jpg", i) for i in range(60)]
    source = tmp_path / "source" / f"photos.{kind}"
    source.parent.mkdir()
    filler = np.random.default_rng(0).integers(0, 256, 20_000, np.uint8).tobytes()  # behind the end of the image
    contents = [file.read_bytes() + filler for file in files]
    if kind == "tar":
        with tarfile.open(source, "w") as tar:
            for file, content in zip(files, contents, strict=True):
                entry = tarfile.TarInfo(file.name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    else:
        pq.write_table(pa.table({"image": contents}), source, row_group_size=20)
    upload(source.parent, f"{bucket}/source")
    photo_extractor.run(tmp_path / "store", source, shard_rows=20)
    link.faults, link.bytes_per_s = FAULTS, 4e6
    summary = photo_extractor.run(f"{bucket}/store", f"{bucket}/source/photos.{kind}", shard_rows=20)
    link.faults, link.bytes_per_s = {}, float("inf")
    assert (summary.inputs, summary.failed) == (60, 0)
    assert_equal(f"{bucket}/store", tmp_path / "store")


def test_an_outage_ends_the_run_and_the_next_one_goes_on(photo_extractor, tmp_path, paint, link, bucket, monkeypatch):
    """No item counts as failed because the service is: what is not committed is done again."""
    for i in range(60):
        paint(tmp_path / "photos" / f"{i:03d}.jpg", i)
    upload(tmp_path / "photos", f"{bucket}/photos")
    monkeypatch.setattr(_urls, "PATIENCE_S", 0.5)

    def outage(progress: Progress) -> None:
        if progress.done >= 40:
            link.faults = {"503": 1.0}

    source, store = f"{bucket}/photos", f"{bucket}/store"
    with pytest.raises((SourceError, StoreError), match="committed shards are intact"):
        photo_extractor.run(store, source, shard_rows=10, workers=1, on_progress=outage)
    link.faults = {}
    patient().rm(f"{store}/.lock")  # could not be deleted either, and names a living process: this one
    assert EmbeddingStore(store).failed == 0
    summary = photo_extractor.run(store, source, shard_rows=10)
    assert (summary.inputs, summary.failed) == (60, 0)
    assert 0 <= summary.resumed < 60
    photo_extractor.run(tmp_path / "store", tmp_path / "photos", shard_rows=10)
    assert_equal(store, tmp_path / "store")


def test_wrong_credentials_are_one_error(photo_extractor, tmp_path, paint, link, bucket, monkeypatch):
    paint(tmp_path / "photos" / "0.jpg", 0)
    upload(tmp_path / "photos", f"{bucket}/photos")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SourceError, match=r"^s3://\S+/photos: cannot be reached: .*Forbidden; check the credentials"):
        photo_extractor.run(tmp_path / "store", f"{bucket}/photos")
    with pytest.raises(StoreError, match=r"^s3://\S+/store: cannot be written: .*(Forbidden|Access Key Id)"):
        photo_extractor.run(f"{bucket}/store", tmp_path / "photos")


def test_credentials_that_expire_fail_the_run_and_no_item(photo_extractor, tmp_path, paint, link, bucket, monkeypatch):
    for i in range(5):
        paint(tmp_path / "photos" / f"{i}.jpg", i)
    upload(tmp_path / "photos", f"{bucket}/photos")
    items = [FileRef(f"{bucket}/photos/{i}.jpg") for i in range(5)]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SourceError, match="cannot be read: The AWS Access Key Id you provided does not exist"):
        photo_extractor.embed(items)
