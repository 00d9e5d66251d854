"""Real servers over real vectors: started as a user starts them, on a free port."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from coldpress import Client, Extractor, VectorIndex
from coldpress.cli._demo import corpus as documentation
from coldpress.data import Columns
from coldpress.embedding_map import draw_map
from coldpress.probes import Recipe, fit_probe
from coldpress.store import EmbeddingStore

MINILM = "all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Server:
    """A running ``coldpress serve``: its address, its process, and what it has said on standard error."""

    url: str
    process: subprocess.Popen[str]
    said: list[str]

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def client(self) -> Client:
        return Client(self.url, retries=0)


@contextmanager
def serving(*arguments: object) -> Iterator[Server]:
    """A server with these arguments; ended by SIGTERM, and by then it must not have failed."""
    command = [sys.executable, "-m", "coldpress", "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said: list[str] = []
    try:
        yield _started(process, said)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, said
    assert not [line for line in said if "Traceback" in line or "should not happen" in line], said


def _started(process: subprocess.Popen[str], said: list[str]) -> Server:
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"at (http://\S+:\d+)", line):
            threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True).start()
            return Server(found[1], process, said)
    process.wait()
    pytest.fail(f"the server did not start: {said}")


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 texts with keys and labels."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    documentation.write(path, documentation.collect(300))
    return path


@pytest.fixture(scope="session")
def extractor() -> Extractor:
    return Extractor(MINILM, precision="fp32")


@pytest.fixture(scope="session")
def store(texts: Path, extractor: Extractor, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    columns = Columns(key="key", label="label", metadata=("text",))
    return extractor.embed_to(tmp_path_factory.mktemp("made") / "texts.store", texts, columns=columns)


@pytest.fixture(scope="session")
def index(store: EmbeddingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "texts.index"
    VectorIndex.build(store).save(path)
    draw_map(store).save(path)
    return path


@pytest.fixture(scope="session")
def head(store: EmbeddingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "texts.head"
    fit_probe(store, "label").head.save(path)
    return path


@pytest.fixture(scope="session")
def neighbours(store: EmbeddingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "texts-knn.head"
    fit_probe(store, "label", recipe=Recipe(heads=["knn"])).head.save(path)
    return path


@pytest.fixture(scope="session")
def start() -> Callable[..., Any]:
    """:func:`serving`, for tests that need a server of their own."""
    return serving


@pytest.fixture(scope="session")
def server(index: Path, head: Path) -> Iterator[Server]:
    """One server with index and head that most tests share."""
    with serving("--index", index, "--head", head, "--deadline", 20) as started:
        yield started


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights, in the layout of Hugging Face: texts find images, if by chance only."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("models") / "tiny-clip"
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ends = {"vocab_size": 36, "max_position_embeddings": 20, "bos_token_id": 34, "eos_token_id": 35, "pad_token_id": 0}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=sizes | ends, projection_dim=16))
    model.save_pretrained(directory)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(directory)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *("##" + c for c in "aeiou")]
    (directory / "vocab.txt").write_text("\n".join(words))
    return directory


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of one colour each, in folders that are their labels."""
    directory = tmp_path_factory.mktemp("photos")
    for i in range(12):
        path = directory / ("warm" if i % 2 else "cold") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (48, 40), (20 * i, 120, 250 - 20 * i)).save(path)
    return directory


@pytest.fixture(scope="session")
def photo_index(clip: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "photos.index"
    columns = Columns(label="label")
    store = Extractor(clip, precision="fp32").embed_to(path.with_suffix(".store"), photos, columns=columns)
    VectorIndex.build(store).save(path)
    draw_map(store).save(path)
    return path


@pytest.fixture(scope="session")
def gallery(photo_index: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the photos that shows pictures, but of some: one leads elsewhere, one is none, one is too large."""
    media = tmp_path_factory.mktemp("gallery") / "media"
    shutil.copytree(photos, media)
    secret = media.parent / "secret.png"
    Image.new("RGB", (30, 30)).save(secret)
    (media / "warm" / "1.png").unlink()
    (media / "warm" / "1.png").symlink_to(secret)
    (media / "warm" / "3.png").write_text("password: no image")
    Image.new("RGB", (900, 600)).save(media / "cold" / "2.png")
    limits = ("--max-pixels", "0.1", "--max-body", "0.5", "--allow-host", "photos.example")
    with serving("--index", photo_index, "--media", media, *limits) as started:
        yield started
