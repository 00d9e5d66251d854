"""A folder as people have them: good photos between files that are none."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coldpress import EmbeddingStore

Cli = Callable[..., Any]

BROKEN = {"empty.jpg", "text.jpg", "truncated.jpg", "bomb.png", "huge.jpg", "gone.jpg"}
ODD = ("cmyk.jpg", "gray.jpg", "palette.png", "deep.png", "alpha.webp", "moving.gif", "turned.jpg")


def jpeg(seed: int, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).resize((96, 72)).convert(mode).save(file, "JPEG", quality=90)
    return file.getvalue()


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 400 megapixels."""
    content = bytearray(encoded(Image.new("L", (1, 1)), "PNG"))
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def huge() -> bytes:
    """A JPEG whose header says 20,000 x 20,000."""
    content = jpeg(1)
    frame = content.index(b"\xff\xc0")
    return content[: frame + 5] + (20_000).to_bytes(2, "big") * 2 + content[frame + 9 :]


def odd() -> dict[str, bytes]:
    """Images that are none of the usual 8-bit RGB, yet good."""
    colours = Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "cmyk.jpg": jpeg(7, "CMYK"),
        "gray.jpg": jpeg(9, "L"),
        "palette.png": encoded(colours.quantize(16), "PNG", transparency=0),
        "deep.png": encoded(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50), "PNG"),
        "alpha.webp": encoded(colours.convert("RGBA"), "WEBP"),
        "moving.gif": encoded(colours, "GIF", save_all=True, append_images=[colours.rotate(90)]),
        "turned.jpg": encoded(colours, "JPEG", exif=turned),
    }


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("folder")
    files = {f"{number}.jpg": jpeg(number) for number in range(4)}
    files |= {"copy-of-0.jpg": jpeg(0), **odd()}
    files |= {"empty.jpg": b"", "text.jpg": b"these are words\n", "truncated.jpg": jpeg(8)[:700]}
    files |= {"bomb.png": bomb(), "huge.jpg": huge()}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    (directory / "gone.jpg").symlink_to(directory / "nowhere.jpg")
    return directory


def test_bad_files_are_named_and_the_run_goes_on(cli: Cli, folder: Path, tiny_vit: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli("embed", folder, "--model", tiny_vit, "--out", out)
    assert done.code == 0
    assert "bomb.png" in done.out
    store = EmbeddingStore(out)
    assert (len(store), store.failed, store.duplicates, store.inputs) == (12, 6, 1, 18)
    assert set(ODD) <= set(store.keys)
    counts = Counter(row["status"] for row in store.outcomes.to_pylist())
    assert counts["ok"] + counts["failed"] + counts["duplicate"] == store.inputs == 18
    failed = {row["key"]: row["reason"] for row in store.outcomes.to_pylist() if row["status"] == "failed"}
    assert failed.keys() == BROKEN
    assert all(failed.values())
    assert all(failed[name].startswith("too large") for name in ("bomb.png", "huge.jpg"))
    assert failed["gone.jpg"] == "file not found"
    information = cli("info", out)
    assert all(reason in information.out for reason in failed.values())


def test_json_names_the_first_failures(cli: Cli, folder: Path, tiny_vit: Path, tmp_path: Path) -> None:
    done = cli("embed", folder, "--model", tiny_vit, "--out", tmp_path / "out", "--json").json
    assert done["rows"] + done["failed"] == done["inputs"] == 18
    assert {failure["key"] for failure in done["failures"]} <= BROKEN
    assert len(done["failures"]) == 5


def test_on_error_fail_stops_at_the_first(cli: Cli, folder: Path, tiny_vit: Path, tmp_path: Path) -> None:
    done = cli("embed", folder, "--model", tiny_vit, "--out", tmp_path / "out", "--on-error", "fail")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "bomb.png: too large" in done.err


def test_an_image_finds_itself(cli: Cli, folder: Path, tiny_vit: Path, tmp_path: Path) -> None:
    store, index = tmp_path / "store", tmp_path / "index"
    assert cli("embed", folder, "--model", tiny_vit, "--out", store, "--output", "cls,layer:1").code == 0
    assert cli("index", store, "--out", index, "--output", "layer:1").code == 0
    query = ("search", index, "--image", folder / "2.jpg", "-k", 1)
    absent = cli("search", index, "--image", "absent.jpg")
    assert (absent.code, "absent.jpg cannot be embedded: file not found" in absent.err) == (1, True)
    assert cli(*query, "--json").json["hits"][0]["key"] == "2.jpg"
    assert cli("search", index, "--text", "a dog").code == 2


def test_merged_patches_are_certified_and_what_they_cost_is_said(
    cli: Cli, folder: Path, tiny_vit: Path, tmp_path: Path
) -> None:
    done = cli("embed", folder, "--model", tiny_vit, "--out", tmp_path / "out", "--merge-tokens", 4)
    assert done.code == 0
    assert "with all patches unmerged" in " ".join(done.out.split())
    wanted = ("--merge-tokens", 4, "--merge-tokens", 2, "--layers", 1, "--precision", "fp32")
    compared = cli("certify", tiny_vit, "--data", folder, *wanted, "--json").json["variants"]
    cuts = [(one["layers"], one["merge_tokens"]) for one in compared]
    assert cuts[0] == (None, 0)
    assert set(cuts) == {(layers, merged) for layers in (None, 1) for merged in (0, 2, 4)}
    near = {cut: one["cosine_mean"] for cut, one in zip(cuts, compared, strict=True)}
    assert 0 < near[None, 4] < near[None, 2] < near[None, 0]
    refused = cli("embed", folder, "--model", tiny_vit, "--out", tmp_path / "none", "--merge-tokens", 8)
    assert refused.code == 1
    assert "merge_tokens is 8, expected 1 to 7" in refused.err


def test_images_of_another_size(cli: Cli, folder: Path, tiny_vit: Path, tmp_path: Path) -> None:
    done = cli("embed", folder, "--model", tiny_vit, "--out", tmp_path / "out", "--image-size", "24x40")
    assert done.code == 0
    assert EmbeddingStore(tmp_path / "out").fingerprint.fields["preprocessing"]["resize"] == ["exact", 24, 40]
    assert cli("certify", tiny_vit, "--data", folder, "--image-size", 48, "--json").json["passed"]
    wrong = cli("embed", folder, "--model", tiny_vit, "--out", tmp_path / "none", "--image-size", "24:40")
    assert wrong.code == 2
    assert "HEIGHTxWIDTH, native or native:N" in " ".join(wrong.err.replace("│", " ").split())
    kept = cli("embed", folder, "--model", tiny_vit, "--out", tmp_path / "kept", "--image-size", "native:20")
    assert kept.code == 0
    assert EmbeddingStore(tmp_path / "kept").fingerprint.fields["preprocessing"]["resize"][2] == 20


def test_a_run_in_which_every_input_fails_has_failed(cli: Cli, tiny_vit: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (source / name).write_bytes(b"no photo")
    done = cli("embed", source, "--model", tiny_vit, "--out", tmp_path / "out")
    assert done.code == 1
    assert "not one of 2 inputs could be embedded" in done.err
    assert len(EmbeddingStore(tmp_path / "out").outcomes) == 2
