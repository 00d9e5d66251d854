"""A server of images: uploads, both towers of CLIP, and files that are none."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from coldpress import Extractor
from coldpress.errors import ServerError


@pytest.fixture
def server(gallery: Any) -> Any:
    return gallery


def upload(server: Any, path: str, files: list[bytes], **fields: str) -> tuple[int, Any]:
    """multipart/form-data as browsers send it."""
    parts = [f'form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts += [b'form-data; name="image"; filename="a.png"\r\n\r\n' + file for file in files]
    body = b"".join(b"--edge\r\nContent-Disposition: " + part + b"\r\n" for part in parts) + b"--edge--\r\n"
    request = urllib.request.Request(server.url + path, body)
    request.add_header("Content-Type", "multipart/form-data; boundary=edge")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 400 megapixels."""
    content = bytearray(encoded(Image.new("L", (1, 1))))
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def test_an_uploaded_image_finds_itself(server: Any, photos: Path) -> None:
    files = [(photos / key).read_bytes() for key in ("cold/0.png", "warm/11.png")]
    status, answer = upload(server, "/v1/search", files, k="3")
    assert status == 200
    assert [result["hits"][0]["key"] for result in answer["results"]] == ["cold/0.png", "warm/11.png"]
    assert [len(result["hits"]) for result in answer["results"]] == [3, 3]
    by_client = server.client.search(image=[photos / "cold/0.png", files[1]], k=3)
    assert [[hit.key for hit in hits] for hits in by_client] == [
        [hit["key"] for hit in result["hits"]] for result in answer["results"]
    ]


def test_both_towers_embed_as_the_extractor_does(server: Any, clip: Path, photos: Path) -> None:
    paths = sorted(photos.rglob("*.png"))[:5]
    assert np.array_equal(server.client.embed(image=paths), Extractor(clip, precision="fp32").embed(paths))
    texts = ["a b", "c d e f g"]
    assert np.array_equal(server.client.embed(texts), Extractor(clip, modality="text", precision="fp32").embed(texts))
    assert [len(hits) for hits in server.client.search(texts, k=4)] == [4, 4]
    assert server.client.info()["takes"] == ["image", "text"]


@pytest.mark.parametrize(
    ("file", "status", "why"),
    [
        (b"", 422, "empty file"),
        (b"GIF89a no image", 422, "image"),
        (bomb(), 413, "megapixels"),
        (encoded(Image.new("RGB", (400, 300))), 413, "400x300 pixels, limit 0.1 megapixels"),
        (encoded(Image.effect_noise((300, 300), 50))[:2000], 422, "truncated"),
        (bytes(600_000), 413, "limit 500000"),
    ],
    ids=["empty", "none", "bomb", "large", "truncated", "body"],
)
def test_files_that_are_no_image_are_refused(server: Any, file: bytes, status: int, why: str) -> None:
    got, answer = upload(server, "/v1/embed", [file])
    assert got == status, answer
    assert why in answer["error"]["message"]


def test_one_bad_file_is_named(server: Any, photos: Path) -> None:
    good = (photos / "cold/0.png").read_bytes()
    assert upload(server, "/v1/embed", [good, b"bad", good])[1]["error"]["param"] == "image[1]"


def test_a_path_is_a_text_and_never_a_file(server: Any, photos: Path) -> None:
    """Image files come as bytes: what the extractor would open stays out of reach."""
    with pytest.raises(ServerError) as error:
        server.client._json("/v1/embed", {"image": str(photos / "cold/0.png")})
    assert error.value.status == 422
    assert upload(server, "/v1/search", [str(photos / "cold/0.png").encode()])[0] == 422


def test_images_come_in_every_format_and_mode(server: Any, clip: Path) -> None:
    colours = Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    files = [encoded(colours.convert(mode), kind) for mode, kind in (("L", "PNG"), ("CMYK", "JPEG"), ("P", "GIF"))]
    assert np.array_equal(server.client.embed(image=files), Extractor(clip, precision="fp32").embed(files))


def test_thumbnails_are_of_items_only_and_of_nothing_outside_the_directory(server: Any, photos: Path) -> None:
    def thumbnail(key: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"{server.url}/v1/thumbnail?key={quote(key)}", timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    status, file = thumbnail("cold/0.png")
    with Image.open(io.BytesIO(file)) as image:
        assert (status, image.format, image.size) == (200, "JPEG", (48, 40))
    outside = ("../secret.png", str(photos / "cold/0.png"), "warm/../../secret.png", "nobody.png", "", "cold", "\x00")
    for key in (*outside, "warm/1.png", "warm/3.png", "cold/2.png"):
        assert thumbnail(key)[0] == 404, key
    assert b"password" not in thumbnail("warm/3.png")[1]
