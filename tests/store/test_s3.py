"""The same over the S3 protocol: the real client, s3fs, and a server on loopback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from coldpress.errors import StoreError
from coldpress.store import EmbeddingStore

s3fs = pytest.importorskip("s3fs")


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty bucket, to be reached with what the environment says and nothing else."""
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{s3_server}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = re.sub(r"[^a-z0-9]+", "-", request.node.name)[:60].strip("-")
    s3fs.S3FileSystem().mkdir(bucket)
    yield f"s3://{bucket}"
    s3fs.S3FileSystem.clear_instance_cache()


def objects(url: str) -> dict[str, bytes]:
    base = url.removeprefix("s3://")
    filesystem = s3fs.S3FileSystem(use_listings_cache=False)
    return {path.removeprefix(f"{base}/"): filesystem.cat_file(path) for path in filesystem.find(base)}


@pytest.mark.parametrize("place", ["", "/deep/down/store"])
def test_same_objects_as_files(tmp_path: Path, s3, sample, snapshot, place):
    expected = snapshot(sample.build(tmp_path / "local"))
    del expected[".lock"]
    for stop in (13, 25):
        with sample.open(s3 + place) as writer:
            sample.feed(writer, stop)
    sample.build(s3 + place)
    assert objects(s3 + place) == expected
    store = EmbeddingStore(s3 + place)
    store.verify()
    np.testing.assert_array_equal(
        np.asarray(store.embeddings), np.asarray(EmbeddingStore(tmp_path / "local").embeddings)
    )


def test_one_writer_at_a_time(s3, sample):
    url = f"{s3}/store"
    with sample.open(url):
        with pytest.raises(StoreError, match="is writing to this store"):
            sample.open(url)
        s3fs.S3FileSystem().rm_file(f"{url}/.lock")
        with sample.open(url):
            pass
    assert ".lock" not in objects(url)


def test_a_bucket_that_is_not_there_is_not_made(s3, sample):
    with pytest.raises(StoreError, match="bucket does not exist"):
        sample.build("s3://no-such-bucket/store")
    assert "no-such-bucket" not in s3fs.S3FileSystem().ls("")


def test_without_credentials_there_is_one_clear_error(s3, sample, monkeypatch):
    sample.build(f"{s3}/store")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match=f"^{s3}/store/manifest.json: cannot be read: .*Unable to locate credentials$"):
        EmbeddingStore(f"{s3}/store")
    with pytest.raises(StoreError, match=f"^{s3}/store: cannot be written: .*Unable to locate credentials;"):
        sample.build(f"{s3}/store")
